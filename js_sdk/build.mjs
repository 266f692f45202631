// dist/bellwire.min.js, for pages that count bytes: bellwire.js through esbuild, nothing else.
// node build.mjs           writes it (npm ci first: package-lock.json pins the tool)
// node build.mjs --check   fails if it is not what the source gives, and plays all vectors against it
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { transform } from "esbuild";

import { difference } from "./vectors/player.mjs";

const SOURCE = new URL("bellwire.js", import.meta.url);
const MINIFIED = new URL("dist/bellwire.min.js", import.meta.url);
const { version, license } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));

const source = readFileSync(SOURCE, "utf8");
// Who has no esbuild sees by this that the source has changed since.
const of = createHash("sha256").update(source).digest("hex");
const banner = `/*! bellwire ${version} for JavaScript, ${license}; made from bellwire.js, SHA-256 ${of} */\n`;
const { code } = await transform(source, { minify: true, format: "esm", target: "es2022", charset: "utf8" });
const made = banner + code;
const size = (text) => `${Buffer.byteLength(text)} bytes, ${gzipSync(text, { level: 9 }).length} compressed`;
console.log(`bellwire.js: ${size(source)}\ndist/bellwire.min.js: ${size(made)}`);
if (!process.argv.includes("--check")) writeFileSync(MINIFIED, made);
else {
  if (readFileSync(MINIFIED, "utf8") !== made) throw new Error("dist/bellwire.min.js is not what bellwire.js gives: node build.mjs");
  const found = difference(await import(MINIFIED));
  if (found) throw new Error(`minified it does not fulfil ${found.name}: ${found.error.message}`);
  console.log("it is what the source gives, and fulfils all vectors");
}
