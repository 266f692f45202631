// The project's vectors, cell by cell, topic by topic and call by call (docs/vectors/README.md).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { DecodeError, Engine, decodeCell, encodeCell, escapePeer, parseTopic, unescapePeer } from "../bellwire.js";

const load = (name) => JSON.parse(readFileSync(new URL(`../../docs/vectors/${name}.json`, import.meta.url)));
const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (data) => Buffer.from(data).toString("hex");

function means(kind, data) {
  const { state, ...cell } = decodeCell(kind, data);
  const told = { [kind]: state };
  const body = kind === "invite" ? "content" : "response";
  if (kind === "presence") delete cell.time; // the vectors do not say it
  for (const [name, value] of Object.entries(cell)) told[name === "body" ? body : name] = value instanceof Uint8Array ? hex(value) : value;
  return told;
}

const cells = load("cells");
for (const vector of [...cells.cells, ...cells.tolerated]) {
  test(`cell: ${vector.name}`, () => assert.deepEqual(means(vector.kind, bytes(vector.hex)), vector.means));
}
for (const vector of cells.cells) {
  test(`written again: ${vector.name}`, () => {
    assert.equal(hex(encodeCell(vector.kind, decodeCell(vector.kind, bytes(vector.hex)))), vector.hex);
  });
}
for (const vector of load("malformed")) {
  test(`malformed: ${vector.name}`, () => {
    assert.throws(() => decodeCell(vector.kind, bytes(vector.hex)), (error) => {
      assert(error instanceof DecodeError, String(error.stack));
      assert.equal(error.cause, vector.cause);
      return true;
    });
  });
}
test("topics", () => {
  const topics = load("topics");
  for (const { peer, level } of topics.peers) {
    assert.equal(escapePeer(peer), level);
    assert.equal(unescapePeer(level), peer);
  }
  for (const peer of topics.no_peer_ids) assert.throws(() => escapePeer(peer), TypeError);
  for (const level of topics.no_levels) assert.equal(unescapePeer(level), undefined);
  for (const { topic, ...is } of topics.topics) {
    const { callId, ...parsed } = parseTopic("sig", topic);
    assert.deepEqual(callId === undefined ? parsed : { ...parsed, call_id: callId }, is);
  }
  for (const topic of topics.unknown_topics) assert.equal(parseTopic("sig", topic), undefined, topic);
});

/** A command of the vectors as the engine's. */
function input(what) {
  const [[kind, detail]] = Object.entries(what);
  const { callee, caller, call_id: callId, content, response, group, payload, ring_timeout: ringTimeout, ack_timeout: ackTimeout, wall: time, ...rest } = detail;
  const given = { ...rest, peer: rest.peer ?? callee ?? caller, callId, ringTimeout, ackTimeout, time };
  const body = content ?? response;
  if (body !== undefined) given.body = bytes(body);
  if (group !== undefined) given.group = bytes(group);
  if (payload !== undefined) given.payload = bytes(payload);
  return { [kind]: given };
}

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function output(effect, at) {
  if (effect.publish) {
    const { publish, payload } = effect;
    return { at, publish, payload: hex(payload) };
  }
  if (effect.subscribe) return { at, subscribe: effect.subscribe };
  if (effect.unsubscribe) return { at, unsubscribe: effect.unsubscribe };
  if (effect.note) return { at, note: effect.note };
  if (effect.tell === "presence") return { at, tell: { event: "presence_changed", peer: effect.peer, online: effect.online ?? null } };
  if (effect.tell) {
    const { call } = effect;
    const name = effect.tell === "missed" ? "missed_call" : `${effect.side}_invitation_${snake(effect.tell)}`;
    return { at, tell: { event: name, peer: call.peer, call_id: call.callId, ...(call.reason ? { reason: call.reason } : {}) } };
  }
  return undefined;
}

/** What is written, without what this implementation has no word for. */
function written({ means: _means, tell, ...rest }) {
  if (!tell) return rest;
  const { state: _state, error: _error, ...told } = tell;
  return { ...rest, tell: told };
}

// BELLWIRE_SCENES: a file of further scenes, as tools/random_scenes.py draws them.
const more = process.env.BELLWIRE_SCENES ? JSON.parse(readFileSync(process.env.BELLWIRE_SCENES)) : [];
for (const scene of [...load("calls"), ...more]) {
  test(`call: ${scene.name}`, () => {
    const engine = new Engine("me", new TextEncoder().encode("epoch-me"));
    let tokens = [];
    let now = 0;
    const feed = (what, at) => {
      engine.handle(what, at);
      return engine.effects().map((effect) => {
        if (effect.token) tokens.push(effect.token);
        return output(effect, at);
      }).filter(Boolean);
    };
    for (const step of scene.steps) {
      const out = [];
      for (let due; (due = engine.deadline()) <= step.at; ) out.push(...feed({ time: {} }, Math.max(due, now)));
      now = step.at;
      if (step.do.disconnected) tokens = [];
      if (step.do.acked) {
        const acked = tokens;
        tokens = [];
        for (const token of acked) out.push(...feed({ acked: { token } }, now));
      } else out.push(...feed(input(step.do), now));
      // What is due at one moment may leave in another order, if not that to one topic.
      const sorted = (list) => (more.includes(scene) ? [...list].sort((a, b) => a.at - b.at || String(a.publish ?? "").localeCompare(String(b.publish ?? ""))) : list);
      assert.deepEqual(sorted(out), sorted(step.out.map(written)), `${step.at} ${JSON.stringify(step.do)}`);
    }
  });
}
