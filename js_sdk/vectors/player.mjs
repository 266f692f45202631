// Plays the project's vectors (docs/vectors/README.md) against an implementation of this one's shape:
// `checks(sdk)` are all of them, each `{name, run}`, where `run` throws at the first difference; those of a
// profile, as `talk`, are among them for an implementation that names it in its `PROFILES`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const VECTORS = new URL("../../docs/vectors/", import.meta.url);
const load = (name) => JSON.parse(readFileSync(new URL(name, VECTORS)));
const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (data) => Buffer.from(data).toString("hex");
/** More effects of one input than any scene has: time that does not pass any more. */
const ENDLESS = 20_000;
/** The words of the reasons from 7. */
const OVER = ["hung up", "peer lost", "restarted", "time is up", "logged out"];

const unzipped = (name) => JSON.parse(gunzipSync(readFileSync(new URL(name, VECTORS))));

export const vectors = {
  cells: load("cells.json"),
  malformed: load("malformed.json"),
  topics: load("topics.json"),
  calls: load("calls.json"),
  generated: unzipped("generated.json.gz"),
  /** Each profile's own; `calls` and `generated` as those of everybody. */
  profiles: [{ ...load("talk.json"), generated: unzipped("talk-generated.json.gz") }],
};

/** A generated scene in the form of the others. */
function unpacked({ steps, ...scene }, table) {
  const effect = (said, stepAt) => {
    const [at, what] = typeof said === "number" ? [stepAt, said] : said;
    return { at, ...table[what] };
  };
  return { ...scene, steps: steps.map(([at, what, out]) => ({ at, do: table[what], out: out.map((said) => effect(said, at)) })) };
}

function means(sdk, kind, data) {
  const { state, talk, ...cell } = sdk.decodeCell(kind, data);
  const told = { [kind]: state };
  if (talk) {
    told.talk = 1;
    if (talk.count) told.count = talk.count;
    if (talk.got !== undefined) told.got = talk.got;
    if (talk.messages?.length) told.messages = talk.messages.map(hex);
  }
  const body = kind === "invite" ? "content" : "response";
  for (const [name, value] of Object.entries(cell)) {
    // What is 0 there is as good as not there.
    if (value === 0 && ["generation", "age"].includes(name)) continue;
    told[name === "body" ? body : name] = value instanceof Uint8Array ? hex(value) : value;
  }
  return told;
}

function topics(sdk) {
  for (const { peer, level } of vectors.topics.peers) {
    assert.equal(sdk.escapePeer(peer), level);
    assert.equal(sdk.unescapePeer(level), peer);
  }
  for (const peer of vectors.topics.no_peer_ids) assert.throws(() => sdk.escapePeer(peer), TypeError, JSON.stringify(peer));
  for (const level of vectors.topics.no_levels) assert.equal(sdk.unescapePeer(level), undefined, level);
  for (const { topic, ...is } of vectors.topics.topics) {
    const { callId, ...parsed } = sdk.parseTopic("sig", topic);
    assert.deepEqual(callId === undefined ? parsed : { ...parsed, call_id: callId }, is);
  }
  for (const topic of vectors.topics.unknown_topics) assert.equal(sdk.parseTopic("sig", topic), undefined, topic);
}

/** A command of the vectors as the engine's. */
function input(what) {
  const [[kind, detail]] = Object.entries(what);
  const { callee, caller, call_id: callId, content, response, group, payload, message, ring_timeout: ringTimeout, ack_timeout: ackTimeout, wall: time, ...rest } = detail;
  const given = { ...rest, peer: rest.peer ?? callee ?? caller, callId, ringTimeout, ackTimeout, time };
  const body = content ?? response ?? message;
  if (body !== undefined) given.body = bytes(body);
  if (group !== undefined) given.group = bytes(group);
  if (payload !== undefined) given.payload = bytes(payload);
  if (kind === "hang_up") given.reason = OVER[(given.reason ?? 7) - 7];
  return { [camel(kind)]: given };
}

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const camel = (name) => name.replace(/_./g, (pair) => pair[1].toUpperCase());

function output(effect, at) {
  if (effect.publish) {
    const { publish, payload } = effect;
    return { at, publish, payload: hex(payload) };
  }
  if (effect.subscribe) return { at, subscribe: effect.subscribe };
  if (effect.unsubscribe) return { at, unsubscribe: effect.unsubscribe };
  if (effect.note) return { at, note: effect.note };
  if (effect.tell === "presence") return { at, tell: { event: "presence_changed", peer: effect.peer, online: effect.online ?? null } };
  if (effect.tell?.startsWith("call")) {
    const { call, message } = effect;
    const tell = { event: snake(effect.tell), peer: call.peer, call_id: call.callId };
    if (message) tell.message = hex(message);
    if (call.talk?.reason) tell.reason = call.talk.reason;
    return { at, tell };
  }
  if (effect.tell) {
    const { call } = effect;
    const name = effect.tell === "missed" ? "missed_call" : `${effect.side}_invitation_${snake(effect.tell)}`;
    const tell = { event: name, peer: call.peer, call_id: call.callId };
    const show = (key, value) => {
      if (value?.length) tell[key] = value instanceof Uint8Array ? hex(value) : value;
    };
    show("reason", call.reason);
    if (effect.tell === "received" || effect.tell === "missed") {
      show("content", call.body);
      show("channel", call.channel);
    } else if (name === "local_invitation_accepted" || name === "local_invitation_refused") show("response", call.response);
    return { at, tell };
  }
  return undefined;
}

/** What is written, without what this implementation has no word for. */
function written({ means: _means, tell, ...rest }) {
  if (!tell) return rest;
  const { state: _state, error: _error, ...told } = tell;
  return { ...rest, tell: told };
}

/** In one order, whatever the order of the calls: only that to one topic counts. */
const byTopic = (list) => [...list].sort((a, b) => a.at - b.at || String(a.publish ?? "").localeCompare(String(b.publish ?? "")));

/** A scene with all that does not depend on who plays it. */
function prepared(scene, inOrder) {
  const { settings = {}, policy, talk = false } = scene.setup ?? {};
  return {
    talk,
    settings: Object.fromEntries(Object.entries(settings).map(([name, value]) => [camel(name), value])),
    screen: policy && ((_call, open) => (open >= policy.open ? policy.reason : undefined)),
    inOrder,
    steps: scene.steps.map((step) => {
      const out = inOrder(step.out.map(written));
      return { at: step.at, do: step.do, input: input(step.do), out, text: JSON.stringify(out) };
    }),
  };
}

function play(sdk, { settings, screen, talk, inOrder, steps }) {
  const engine = new sdk.Engine("me", new TextEncoder().encode("epoch-me"), { settings, screen, talk });
  let tokens = [];
  let now = 0;
  let fed = 0;
  const feed = (what, at) => {
    if (++fed > ENDLESS) throw new Error("time does not pass");
    engine.handle(what, at);
    const out = [];
    for (const effect of engine.effects()) {
      if (effect.token) tokens.push(effect.token);
      const said = output(effect, at);
      if (said) out.push(said);
    }
    return out;
  };
  for (const step of steps) {
    const out = [];
    for (let due; (due = engine.deadline()) <= step.at; ) out.push(...feed({ time: {} }, Math.max(due, now)));
    now = step.at;
    if (step.do.disconnected) tokens = [];
    if (step.do.acked) {
      for (const token of tokens.splice(0, step.do.acked.first ?? Infinity)) out.push(...feed({ acked: { token } }, now));
    } else if (step.out.some(({ raises }) => raises)) {
      assert.throws(() => engine.handle(step.input, now));
      out.push({ at: now, raises: true });
    } else out.push(...feed(step.input, now));
    const is = inOrder(out);
    // Their texts first: that takes a tenth of the time.
    if (JSON.stringify(is) !== step.text) assert.deepEqual(is, step.out, `at ${step.at}: ${JSON.stringify(step.do)}`);
  }
  assert.equal(engine.drops.defect, undefined, "a defect, taken for a malformed message");
}

function* inScenes({ calls, generated: { scenes, table } }) {
  for (const scene of calls) yield { name: `call: ${scene.name}`, scene: prepared(scene, (list) => list) };
  for (const scene of scenes) yield { name: `generated: ${scene.name}`, scene: prepared(unpacked(scene, table), byTopic) };
}
const scenes = [...inScenes(vectors)];
const ofProfiles = vectors.profiles.map((vectorsOfIt) => ({ ...vectorsOfIt, scenes: [...inScenes(vectorsOfIt)] }));

function* inCells(sdk, { cells, tolerated }) {
  for (const vector of [...cells, ...tolerated]) {
    yield { name: `cell: ${vector.name}`, run: () => assert.deepEqual(means(sdk, vector.kind, bytes(vector.hex)), vector.means) };
  }
  for (const { name, kind, hex: expected } of cells) {
    yield { name: `written again: ${name}`, run: () => assert.equal(hex(sdk.encodeCell(kind, sdk.decodeCell(kind, bytes(expected)))), expected) };
  }
}

function* refused(sdk, malformed) {
  for (const { name, kind, hex: data, cause } of malformed) {
    yield {
      name: `malformed: ${name}`,
      run: () => assert.throws(() => sdk.decodeCell(kind, bytes(data)), (error) => {
        assert(error instanceof sdk.DecodeError, String(error.stack));
        assert.equal(error.cause, cause);
        return true;
      }),
    };
  }
}

/** Every vector, the short ones first. */
export function* checks(sdk) {
  const profiles = ofProfiles.filter(({ profile }) => sdk.PROFILES?.includes(profile));
  yield* inCells(sdk, vectors.cells);
  for (const profile of profiles) yield* inCells(sdk, profile);
  const rewritten = (body) => hex(sdk.encodeBody(sdk.decodeBody(bytes(body))));
  for (const { name, hex: body, written: expected } of vectors.cells.bodies) yield { name: `body: ${name}`, run: () => assert.equal(rewritten(body), expected) };
  for (const { name, means: { content, response } } of vectors.cells.cells) {
    const body = content ?? response;
    if (body !== undefined) yield { name: `body written again: ${name}`, run: () => assert.equal(rewritten(body), body) };
  }
  yield* refused(sdk, vectors.malformed);
  for (const profile of profiles) yield* refused(sdk, profile.malformed);
  yield { name: "topics", run: () => topics(sdk) };
  const all = [scenes, ...profiles.map((profile) => profile.scenes)].flat();
  // Those that were written by hand say more of what is wrong, and take less time.
  for (const drawn of [false, true]) {
    for (const { name, scene } of all) if (name.startsWith("generated") === drawn) yield { name, run: () => play(sdk, scene) };
  }
}

/** The first vector that `sdk` does not fulfil, as `{name, error}`; undefined for none. */
export function difference(sdk) {
  for (const { name, run } of checks(sdk)) {
    try {
      run();
    } catch (error) {
      return { name, error };
    }
  }
  return undefined;
}
