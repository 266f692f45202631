// The list of mistakes still fits bellwire.js; `node vectors/measure.mjs` says which of them the vectors catch.
import assert from "node:assert/strict";
import { test } from "node:test";

import { mistaken } from "../vectors/measure.mjs";
import { MISTAKES } from "../vectors/mistakes.mjs";

const all = Object.values(MISTAKES).flat();
test("at least 140 of them, each with a name of its own", () => {
  assert(all.length >= 140);
  assert.equal(new Set(all.map(([what]) => what)).size, all.length);
});
for (const mistake of all) test(`it applies: ${mistake[0]}`, () => assert.notEqual(mistaken(mistake), ""));
