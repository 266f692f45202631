// dist/bellwire.min.js, for pages that count bytes: bellwire.js through esbuild, with short names for INTERNAL.
// node build.mjs           writes it (npm ci first: package-lock.json pins the tool)
// node build.mjs --check   fails if it is not what the source gives, and plays all vectors against it;
//                          then BELLWIRE=../dist/bellwire.min.js node --test test/ has it as a page has
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { transform } from "esbuild";

import { difference } from "./vectors/player.mjs";

const SOURCE = new URL("bellwire.js", import.meta.url);
const MINIFIED = new URL("dist/bellwire.min.js", import.meta.url);
/** Properties that bellwire.js alone reads and writes, by their names and never by a text. */
const INTERNAL = `
  _hear _take adopt advance again allows answerCleared answerReason asking asksAgain awaited away back begin born byApp callerSeen
  cancelPending changed comeBack current cut cutAt delay doubts echoed endTalk endTalks engine expire fire fireOne
  forget former found giveUp giveUpTalk goesOn goodbyeAt greeted hear heard held idle inbox inboxFilters inTalk invited
  isAside isLive judge keep known leaveCall leaving left lift lifted limitAt linked liveAt logOut lostAt makeRoom
  mayAnswer maySay noteOffline nothingToSay offlineTold outbox outboxFilters overloaded ownPresence peerPresence
  peerSeen phase pingedAt previous purpose quiet readAgain readOn refusal resync retryAt ringsAfterAll saidAt sayCell
  sayFor sayKey sayNext sayOnline sayPresence setAside settle settleAt settled shares skip spoke step subscribeInbox
  suspects take talkDue talked talkNotTaken tellCanceled timer trial unacked unfinished until vouchAt waiting wake
  watchCall watches
`.trim().split(/\s+/);
const { version, license } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));

const source = readFileSync(SOURCE, "utf8");
// Who has no esbuild sees by this that the source has changed since.
const of = createHash("sha256").update(source).digest("hex");
const banner = `/*! bellwire ${version} for JavaScript, ${license}; made from bellwire.js, SHA-256 ${of} */\n`;
// What is declared, and what is in a text, is told or looked up by its name. The rest the vectors and the client's tests see.
const declared = readFileSync(new URL("bellwire.d.ts", import.meta.url), "utf8").replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
const known = new Set([declared, ...source.match(/"[^"\n]*"/g)].join().match(/\w+/g));
const notInternal = INTERNAL.filter((word) => known.has(word));
if (notInternal.length) throw new Error(`not internal: ${notInternal.join(", ")}`);
const { code } = await transform(source, { minify: true, format: "esm", target: "esnext", charset: "utf8", mangleProps: RegExp(`^(${INTERNAL.join("|")})$`) });
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
