// What comes from the wire: nothing throws, memory stays bounded. And what the app hands in wrong.
import assert from "node:assert/strict";
import { test } from "node:test";

import "../node.js";

const { Client, DecodeError, Engine, InvalidArgument, Mqtt, Rotation, decodeBody, decodeCell, encodeBody, encodeCell, spread } = await import(process.env.BELLWIRE ?? "../bellwire.js");

/** Numbers that look random and are the same each time (mulberry32). */
function numbers(seed) {
  return (most) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % most;
  };
}

const some = (next, most) => Uint8Array.from({ length: next(most) }, () => next(256));
const EPOCH = new TextEncoder().encode("epoch-me");
const CALL = "AQEBAQEBAQEBAQEBAQEBAQ";

test("a cell of any bytes is read or refused, nothing else", () => {
  const next = numbers(1);
  const whole = encodeCell("invite", { state: "ringing", epoch: EPOCH, seq: 1, ttl: 1000, body: encodeBody({ a: [1, "b", null] }), channel: "c" });
  for (let i = 0; i < 5_000; i++) {
    const data = i % 2 ? some(next, 60) : whole.slice();
    if (!(i % 2)) for (let n = 1 + next(3); n > 0; n--) data[next(data.length)] = next(256);
    for (const kind of ["invite", "answer", "presence"]) {
      try {
        decodeBody(decodeCell(kind, data).body);
      } catch (error) {
        assert(error instanceof DecodeError, error.stack);
      }
    }
  }
});

test("an engine takes any message in any state", () => {
  const next = numbers(2);
  for (let run = 0; run < 60; run++) {
    const engine = new Engine("me", EPOCH);
    let now = 0;
    const tokens = [];
    engine.handle({ connected: {} }, now);
    for (let i = 0; i < 200; i++) {
      now += next(1000) / 300;
      const peer = ["you", "them", "me", "a%2", ""][next(5)];
      const kind = ["invite", "answer", "presence"][next(3)];
      const state = { invite: ["ringing", "accepted", "ended"], answer: ["received", "accepted", "refused", "failed", "seen"], presence: ["offline", "online"] }[kind];
      const epoch = [EPOCH, new Uint8Array(8), some(() => 8, 8)][next(2)];
      const cell = { state: state[next(state.length)], epoch, seq: next(9), ttl: next(3) * 1000, reason: next(9), ask: next(2) === 1, generation: next(3), age: next(9), asker: next(2) ? EPOCH : undefined };
      const payload = [new Uint8Array(0), some(next, 40), encodeCell(kind, cell)][next(3)];
      const topic = kind === "presence" ? `sig/v1/${peer}/presence` : next(2) ? `sig/v1/me/${kind}/${peer}/${CALL}` : `sig/v1/${peer}/${kind}/me/${CALL}`;
      if (next(30) === 0) engine.handle({ disconnected: {} }, now);
      else if (next(20) === 0) engine.handle({ connected: {} }, now);
      else if (next(10) === 0 && tokens.length) engine.handle({ acked: { token: tokens.shift() } }, now);
      else engine.handle({ message: { topic, payload, retained: next(2) === 1 } }, now);
      tokens.push(...engine.effects().flatMap((effect) => effect.token ?? []));
      if (engine.closed) break;
    }
    assert.equal(engine.drops.defect, undefined);
  }
});

test("a flood of strangers is bounded, in calls, in memory of them and in what is said", () => {
  const engine = new Engine("me", EPOCH);
  engine.handle({ connected: {} }, 0);
  engine.handle({ message: { topic: "sig/v1/me/presence", payload: encodeCell("presence", { state: "online", epoch: EPOCH }), retained: false } }, 0);
  engine.effects();
  let said = 0;
  for (let i = 0; i < 4_000; i++) {
    const id = `${String(i).padStart(21, "0")}A`;
    const invite = encodeCell("invite", { state: i % 2 ? "ringing" : "ended", epoch: EPOCH, seq: 1, ttl: 60_000, reason: 1 });
    engine.handle({ message: { topic: `sig/v1/me/invite/p${i % 100}/${id}`, payload: invite, retained: false } }, 1);
    engine.handle({ message: { topic: `sig/v1/me/answer/p${i % 100}/${id}`, payload: encodeCell("answer", { state: "received", epoch: EPOCH, seq: 1 }), retained: false } }, 1);
    said += engine.effects().filter((effect) => effect.publish).length;
  }
  assert(engine.callee.calls.size <= 257 && engine.caller.calls.size <= 256);
  assert(engine.callee.remembered.size <= 4096);
  assert(said <= 1024, `${said} publishes`);
});

test("MQTT: any bytes are packets or end the connection; they are kept within bounds", () => {
  const next = numbers(3);
  for (let run = 0; run < 1000; run++) {
    const mqtt = new Mqtt(() => {}, () => {});
    try {
      for (let i = 0; i < 20; i++) mqtt.feed(some(next, 50));
    } catch (error) {
      assert(error instanceof DecodeError, error.stack);
    }
    assert(mqtt.buffer.length < 200_000);
  }
});

test("MQTT: a packet in pieces is one; one that is too large is acknowledged and read away", () => {
  const told = [];
  const sent = [];
  const mqtt = new Mqtt((bytes) => sent.push([...bytes]), (input) => told.push(input));
  const huge = 100_000;
  const bytes = [0x32, (huge & 127) | 128, ((huge >> 7) & 127) | 128, huge >> 14, 0, 1, 97, 0, 7, ...new Uint8Array(huge - 5)];
  bytes.push(0x33, 6, 0, 1, 98, 0, 8, 99);
  for (let at = 0; at < bytes.length; at += 777) mqtt.feed(Uint8Array.from(bytes.slice(at, at + 777)));
  assert.deepEqual(sent, [[0x40, 2, 0, 7], [0x40, 2, 0, 8]]);
  assert.deepEqual(told, [{ message: { topic: "b", payload: Uint8Array.of(99), retained: true } }]);
});

test("what the app hands in wrong is told where it comes in, and changes nothing", () => {
  assert.throws(() => new Client({ url: "ws://x", peer: "" }), InvalidArgument);
  assert.throws(() => new Client({ url: "ws://x", peer: "a", realm: "a/b" }), InvalidArgument);
  assert.throws(() => new Client({ url: "ws://x", peer: "a", settings: { remember: 1 } }), InvalidArgument);
  const client = new Client({ url: "ws://x", peer: "a" });
  assert.throws(() => client.invite("b"), /log in first/);
  assert.throws(() => client.invite("b", { content: () => 1 }), InvalidArgument);
  assert.throws(() => client.invite("b", { content: "x".repeat(9000) }), /at most 8192/);
  assert.throws(() => client.invite("b", { channel: "x".repeat(65) }), InvalidArgument);
  for (const ringTimeout of [-1, NaN, "30", 30n, 86401]) assert.throws(() => client.invite("b", { ringTimeout }), InvalidArgument);
  // What a timer cannot hold would have ended the login at once, and a text made times of texts.
  for (const wrong of [{ settings: { ringTimeout: "30" } }, { loginTimeout: Infinity }, { loginTimeout: "5" }, { password: 5 }, { username: "x".repeat(65536) }]) {
    assert.throws(() => new Client({ url: "ws://x", peer: "a", ...wrong }), InvalidArgument);
  }
  assert.throws(() => client.invite("b", { content: new Map([[1, "a"], [1n, "b"]]) }), /a key twice/);
  const cycle = [];
  cycle.push(cycle);
  assert.throws(() => client.invite("b", { content: cycle }), InvalidArgument);
});

test("bodies come back as they were", () => {
  for (const body of [null, true, 0, -1, 1.5, -0, 1e300, NaN, Infinity, 2 ** 53, "é€😀", [], {}, { a: { b: [1, "c"] } }, 2n ** 60n, new Map([[1, "one"]]), Uint8Array.of(1, 2)]) {
    assert.deepEqual(decodeBody(encodeBody(body)), body);
  }
  for (const small of [0, 5, -5, 300, 2 ** 33]) assert.deepEqual(encodeBody(BigInt(small)), encodeBody(small));
  assert.deepEqual(decodeBody(encodeBody([, 1])), [null, 1]);
});

test("a login that is refused, and one that nobody answers, are rejected with why", async () => {
  const refusing = (_url, on) => {
    queueMicrotask(() => on.open());
    return { send: () => queueMicrotask(() => on.data(Uint8Array.of(0x20, 2, 0, 5))), close() {} };
  };
  const login = (open) => new Client({ url: "x", peer: "a", open, loginTimeout: 0.2 }).login();
  await assert.rejects(login(refusing), { code: "refused", message: /not authorised/ });
  await assert.rejects(login(() => ({ send() {}, close() {} })), { code: "timeout" });
  await assert.rejects(login(() => { throw new TypeError("bad url"); }), { code: "refused", message: /bad url/ });
});

test("several brokers: each peer has its own order, whatever order they are given in", () => {
  const urls = ["a", "b", "c", "d"].map((name) => `mqtts://${name}.example`);
  const peers = Array.from({ length: 400 }, (_, number) => `peer${number}`);
  for (const peer of peers) {
    assert.deepEqual(spread([...urls].reverse(), peer), spread(urls, peer));
    // Without one of them the others stay as they are.
    assert.deepEqual(spread(urls.slice(1), peer), spread(urls, peer).filter((url) => url !== urls[0]));
  }
  for (const place of [0, 1]) {
    const times = urls.map((url) => peers.filter((peer) => spread(urls, peer)[place] === url).length);
    assert(times.every((count) => count > 60), `${place}: ${times}`);
  }
});

test("several brokers: on to the next at once, longer pauses once all have failed, no way back", () => {
  const rotation = new Rotation(["a", "b"]);
  const pauses = [];
  for (let i = 0; i < 14; i++) {
    assert.equal(rotation.url, "ab"[i % 2]);
    pauses.push(rotation.failed(undefined, 1));
  }
  assert.deepEqual(pauses, [0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.8, 0.8, 1.6, 1.6, 3.2, 3.2, 5, 5]);
  assert.equal(rotation.patience, 16);
  assert.equal(rotation.failed(3600, 0), 0.05); // it had served: the next at once, by the least jitter
  assert.equal(rotation.url, "b");
  assert.equal(rotation.patience, 2);
});

/** A transport whose `brokers[url]` says how it goes: "dead", "silent", or an MQTT code of its CONNACK. */
const transport = (brokers, dialed) => (url, on) => {
  dialed.push(url);
  const how = brokers[url];
  queueMicrotask(() => (how === "dead" ? on.close("nobody there") : on.open()));
  const answer = (bytes) => queueMicrotask(() => on.data(Uint8Array.from(bytes)));
  const send = (bytes) => {
    if (how === "silent") return;
    if (bytes[0] === 0x10) answer([0x20, 2, 0, how === "mute" ? 0 : how]);
    if (bytes[0] === 0x82) answer([0x90, 5, bytes[2], bytes[3], 1, 1, 1]);
    if (bytes[0] >> 4 === 3 && how !== "mute") {
      let at = 1;
      while (bytes[at++] & 0x80);
      const id = at + 2 + ((bytes[at] << 8) | bytes[at + 1]);
      answer([0x40, 2, bytes[id], bytes[id + 1]]);
    }
  };
  return { send, close() {} };
};

test("several brokers: a login goes on to the one that serves; what all refuse is rejected with why of each", async () => {
  const urls = ["x://a", "x://b", "x://c"];
  const dialed = [];
  const brokers = { "x://a": "dead", "x://b": "dead", "x://c": "dead" };
  const order = spread(urls, "me");
  brokers[order[2]] = 0;
  const client = new Client({ urls, peer: "me", open: transport(brokers, dialed), settings: { startupTimeout: 0.05 } });
  await client.login();
  assert.deepEqual(dialed, order);
  assert.equal(client.url, order[2]);
  await client.logout();
  const refusing = { "x://a": 5, "x://b": 4, "x://c": 5 };
  await assert.rejects(new Client({ urls, peer: "me", open: transport(refusing, []) }).login(), ({ code, message }) => code === "refused" && urls.every((url) => message.includes(url)));
  const stuck = new Client({ urls, peer: "me", open: transport({ ...refusing, [order[0]]: "dead" }, []), loginTimeout: 0.6 });
  await assert.rejects(stuck.login(), ({ code, message }) => code === "timeout" && message.includes("nobody there"));
});

test("several brokers: one that takes the connection and says nothing costs two seconds", async () => {
  const urls = ["x://a", "x://b"];
  const order = spread(urls, "me");
  const dialed = [];
  const client = new Client({ urls, peer: "me", open: transport({ [order[0]]: "silent", [order[1]]: 0 }, dialed), settings: { startupTimeout: 0.05 } });
  const before = performance.now();
  await client.login();
  assert(performance.now() - before > 1_900);
  assert.deepEqual(dialed, order);
  await client.logout();
});

test("urls that do not fit are told where they come in", () => {
  const wrong = [["ws://a", "nowhere"], ["ws://a", "WS://a/"], ["ws://a", "WSS://b"], ["ws://a", "ws://a:99999"], ["ws://user:secret@a"]];
  for (const urls of [[], ["ws://a", "ws://a"], ["ws://a", "wss://b"], "ws://a", [1], [""], ...wrong]) assert.throws(() => new Client({ urls, peer: "me" }), InvalidArgument);
  assert.throws(() => new Client({ peer: "me" }), InvalidArgument);
});

test("a call that does not go on, or not any more, says so; a login that is over says so", async () => {
  const client = new Client({ url: "x://a", peer: "me", talk: true, open: transport({ "x://a": 0 }, []), settings: { startupTimeout: 0.05 } });
  await client.login();
  const call = client.invite("you");
  assert.throws(() => call.send("hello"), { code: "ALREADY_END" });
  assert.throws(() => call.hangUp(), { code: "ALREADY_END" });
  assert.throws(() => call.hangUp("bored"), InvalidArgument);
  const messages = [];
  const reading = (async () => {
    for await (const message of call.messages()) messages.push(message);
  })();
  await client.logout();
  assert.equal((await call.ended).state, "canceled");
  await reading;
  assert.deepEqual(messages, []);
  assert.throws(() => client.invite("you"), { code: "NOT_LOGGEDIN" });
  assert.throws(() => call.cancel(), { code: "NOT_LOGGEDIN" });
});

test("a logout does not wait longer than two seconds for a broker that acknowledges nothing", async () => {
  const client = new Client({ url: "x://a", peer: "me", open: transport({ "x://a": "mute" }, []), settings: { startupTimeout: 0.05 } });
  await client.login();
  const call = client.invite("you");
  const before = performance.now();
  await client.logout();
  assert(performance.now() - before < 10_000);
  assert.equal((await call.ended).state, "canceled");
});

// --- a page as it is: hidden, asleep, with listeners that command -----------------------------------

/** Time stands until `to(at)`: what is due by then happens in order, never before `late(when)`. */
function clock(t) {
  let now = 1_000_000;
  const due = new Map();
  let last = 0;
  t.mock.method(performance, "now", () => now);
  t.mock.method(globalThis, "setTimeout", (act, ms) => {
    due.set(++last, { act, at: now + ms });
    return last;
  });
  t.mock.method(globalThis, "clearTimeout", (id) => due.delete(id));
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return {
    settle,
    async pass(seconds, late = (at) => at) {
      const until = now + 1000 * seconds;
      for (;;) {
        await settle();
        const [[id, next] = []] = [...due].filter(([, { at }]) => late(at) <= until).sort(([, a], [, b]) => a.at - b.at);
        if (!next) break;
        due.delete(id);
        now = Math.max(now, late(next.at));
        next.act();
      }
      now = until;
      await settle();
    },
    /** The machine sleeps: time goes on, nothing else does. */
    sleep: (seconds) => (now += 1000 * seconds),
  };
}

/** A broker in the hand: takes all, acknowledges all; `push` says something on its last connection. */
function broker() {
  const it = { dialed: 0, pings: 0, said: [], deaf: false };
  const push = (...bytes) => queueMicrotask(() => it.on.data(Uint8Array.from(bytes.flat())));
  it.push = (topic, payload, first = 0x30) => push(first, [2 + topic.length + payload.length].flatMap((n) => (n < 128 ? [n] : [(n & 127) | 128, n >> 7])), 0, topic.length, [...new TextEncoder().encode(topic)], [...payload]);
  it.open = (_url, on) => {
    it.dialed++;
    it.on = on;
    queueMicrotask(() => on.open());
    const send = (bytes) => {
      if (it.fails) throw new Error("the socket is broken");
      if (it.deaf) return;
      if (bytes[0] === 0xc0) it.pings++;
      if (bytes[0] === 0xc0) push(0xd0, 0);
      if (bytes[0] === 0x10) push(0x20, 2, 0, 0);
      let at = 1;
      while (bytes[at++] & 0x80);
      if (bytes[0] === 0x82) push(0x90, 5, bytes[at], bytes[at + 1], 1, 1, 1);
      if (bytes[0] >> 4 !== 3) return;
      const id = at + 2 + ((bytes[at] << 8) | bytes[at + 1]);
      it.said.push({ topic: new TextDecoder().decode(bytes.slice(at + 2, id)), payload: bytes.slice(id + 2) });
      push(0x40, 2, bytes[id], bytes[id + 1]);
      if (it.said.at(-1).topic === "sig/v1/me/presence") it.push("sig/v1/me/presence", it.said.at(-1).payload);
    };
    return { send, close() {} };
  };
  return it;
}

async function loggedIn(t, options) {
  const time = clock(t);
  const theBroker = broker();
  const client = new Client({ url: "x://a", peer: "me", open: theBroker.open, ...options });
  const login = client.login();
  await time.pass(3);
  await login;
  return { time, broker: theBroker, client };
}

const presence = (state) => encodeCell("presence", { state, epoch: new Uint8Array(8).fill(state === "online" ? 2 : 1) });

test("a hidden page, whose timers come once a minute, keeps its connection", async (t) => {
  const { time, broker, client } = await loggedIn(t);
  await time.pass(3600, (at) => Math.ceil(at / 60_000) * 60_000);
  assert.equal(broker.dialed, 1);
  assert(broker.pings >= 50);
  assert.equal(client.state, "connected");
});

test("a broker that says nothing any more is left in 35 s; after a night asleep at once", async (t) => {
  const { time, broker, client } = await loggedIn(t);
  broker.deaf = true;
  await time.pass(30); // 3 s have passed since the login
  assert.equal(broker.dialed, 1);
  await time.pass(6);
  assert.equal(broker.dialed, 2);
  broker.deaf = false;
  await time.pass(60);
  assert.equal(client.state, "connected");
  const before = broker.dialed;
  time.sleep(8 * 3600);
  await time.pass(1);
  assert.equal(broker.dialed, before + 1);
  await time.pass(3);
  assert.equal(client.state, "connected");
});

test("what a stranger says in between keeps nobody from saying that it lives", async (t) => {
  const { time, broker } = await loggedIn(t);
  for (let i = 0; i < 12; i++) {
    broker.push("sig/v1/me/invite/you/x", [1]);
    await time.pass(10);
  }
  assert(broker.pings >= 4, `${broker.pings} pings in two minutes`);
});

test("a page that comes back asks at once whether its connection lives, until it has logged out", async (t) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  t.after(() => delete globalThis.addEventListener);
  const { time, broker, client } = await loggedIn(t);
  page.dispatchEvent(new Event("visibilitychange"));
  await time.pass(1);
  assert.equal(broker.pings, 1);
  broker.deaf = true; // it ended the connection while this machine slept, and its clock
  page.dispatchEvent(new Event("online"));
  await time.pass(14);
  assert.equal(broker.dialed, 1);
  await time.pass(2);
  assert.equal(broker.dialed, 2);
  broker.deaf = false;
  await time.pass(60);
  assert.equal(client.state, "connected");
  const logout = client.logout();
  await time.pass(3);
  await logout;
  const { pings } = broker;
  page.dispatchEvent(new Event("online"));
  assert.equal(broker.pings, pings);
});

test("who logs out while it is about to connect dials nobody", async (t) => {
  const time = clock(t);
  const theBroker = broker();
  const client = new Client({ url: "x://a", peer: "me", open: theBroker.open });
  client.addEventListener("state", () => client.state === "connecting" && client.logout());
  await assert.rejects(client.login(), { code: "logged out" });
  await time.pass(100);
  assert.equal(theBroker.dialed, 0);
});

test("a connection that never opens is dialed anew", async (t) => {
  const time = clock(t);
  const closed = [];
  let dialed = 0;
  const client = new Client({ url: "x://a", peer: "me", loginTimeout: 100, open: () => ({ send() {}, close: () => closed.push(++dialed) }) });
  const login = assert.rejects(client.login(), { code: "timeout" });
  await time.pass(80);
  assert.deepEqual(closed, [1, 2]);
  await time.pass(30);
  await login;
  assert.equal(closed.length, 3);
  await time.pass(1000);
  assert.equal(closed.length, 3);
});

test("who calls back with the call id that I called with takes nothing from my call", async (t) => {
  const { time, broker, client } = await loggedIn(t);
  const call = client.invite("you");
  broker.push("sig/v1/you/presence", presence("online"));
  await time.pass(0);
  const invite = encodeCell("invite", { state: "ringing", epoch: new Uint8Array(8).fill(2), seq: 1, ttl: 60_000 });
  const rings = client.rings();
  broker.push(`sig/v1/me/invite/you/${call.callId}`, invite);
  await time.pass(0);
  assert.equal((await rings.next()).value.callId, call.callId);
  broker.push(`sig/v1/me/answer/you/${call.callId}`, encodeCell("answer", { state: "refused", epoch: new Uint8Array(8).fill(2), seq: 1, reason: 2 }));
  await time.pass(0);
  assert.equal(call.state, "refused");
  assert.equal((await call.ended).reason, "busy");
});

for (const [given, reports] of [[null, 0], [undefined, 0], [Promise.resolve(), 1], [false, 1], ["later", 1]]) test(`a policy that gives ${given} refuses nobody`, async (t) => {
  const errors = [];
  globalThis.reportError = (error) => errors.push(error);
  t.after(() => delete globalThis.reportError);
  const { time, broker, client } = await loggedIn(t, { policy: () => given });
  client.watch("you");
  broker.push("sig/v1/you/presence", presence("online"));
  await time.pass(0);
  broker.push(`sig/v1/me/invite/you/${CALL}`, encodeCell("invite", { state: "ringing", epoch: new Uint8Array(8).fill(2), seq: 1, ttl: 60_000 }));
  await time.pass(0);
  assert.equal((await client.rings().next()).value.state, "ringing");
  assert.deepEqual(errors.map(({ name }) => name), Array(reports).fill("InvalidArgument"));
});

test("what a listener commands comes after all that was to be said before it", async (t) => {
  const { time, broker, client } = await loggedIn(t);
  client.watch("you");
  await time.pass(0);
  broker.push("sig/v1/you/presence", presence("offline"), 0x31);
  await time.pass(0);
  const call = client.invite("you");
  client.addEventListener("presence", ({ detail }) => detail.online && call.cancel());
  await time.pass(1);
  broker.push("sig/v1/you/presence", presence("online"));
  await time.pass(1);
  const said = broker.said.filter(({ topic }) => topic.includes("/invite/me/")).map(({ payload }) => decodeCell("invite", payload));
  assert.deepEqual(said.map(({ seq }) => seq), said.map((_, i) => i + 1));
  assert.equal(said.at(-1).state, "ended");
});

test("a socket that cannot send is a broken connection, and no error of the command", async (t) => {
  const { time, broker, client } = await loggedIn(t);
  broker.fails = true;
  const call = client.invite("you");
  assert.equal(client.state, "reconnecting");
  broker.fails = false;
  await time.pass(5);
  assert.equal(client.state, "connected");
  assert(broker.said.some(({ topic }) => topic.endsWith(call.callId)));
});

test("a login that is over cannot be begun again, and says so at once; nobody watches itself", async (t) => {
  const { client } = await loggedIn(t);
  assert.throws(() => client.watch("me"), InvalidArgument);
  const unused = new Client({ url: "x://a", peer: "me", open: broker().open });
  await unused.logout();
  await assert.rejects(unused.login(), { code: "logged out" });
});
