/**
 * Bellwire for JavaScript: a whole peer of the call protocol in one file, without dependencies.
 *
 * The layers are those of the other peers: wire (CBOR, cells, topics), core (one peer's calls,
 * sans-IO: inputs and time go in, effects and the next deadline come out), link (MQTT 3.1.1 over
 * WebSocket, or over what a caller brings), client. docs/protocol.md is the protocol's truth.
 */

// --- wire: CBOR, as far as cells have it (docs/protocol.md, Limits of the encoding) ------------

export const MAX_CELL = 20 * 1024;
export const MAX_BODY = 8 * 1024;
const MAX_CHANNEL = 64;
const MAX_DEPTH = 16;
const MAX_TTL = 86_400_000;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const TEXT = new TextEncoder();

/** What came from the wire is not of this protocol; it is dropped and counted. */
export class DecodeError extends Error {
  constructor(cause, problem) {
    super(problem);
    this.name = "DecodeError";
    this.cause = cause;
  }
}

/** A value from the application that cannot be used; nothing was changed. */
export class InvalidArgument extends TypeError {
  constructor(what, problem) {
    super(`${what}: ${problem}`);
    this.name = "InvalidArgument";
  }
}

const malformed = (problem) => new DecodeError("malformed", problem);

/** One item of `data` at `pos`: its value and its end; checked as strictly as the protocol is. */
function readItem(data, pos, depth, field) {
  if (pos >= data.length) throw malformed("ends within an item");
  const start = pos;
  const major = data[pos] >> 5;
  const info = data[pos++] & 31;
  let value = info;
  if (info > 27) throw malformed(`byte ${start}: indefinite length or reserved head`);
  if (info > 23) {
    const width = 1 << (info - 24);
    if (pos + width > data.length) throw malformed("ends within a head");
    const view = new DataView(data.buffer, data.byteOffset + pos, width);
    if (major === 7 && width > 1) {
      pos += width;
      if (width === 2) return [half(view.getUint16(0)), pos];
      return [width === 4 ? view.getFloat32(0) : view.getFloat64(0), pos];
    }
    value = width === 1 ? view.getUint8(0) : width === 2 ? view.getUint16(0) : width === 4 ? view.getUint32(0) : view.getBigUint64(0);
    const least = [24, 0x100, 0x10000, 0x100000000n][info - 24];
    if (major !== 7 && value < least) throw malformed(`byte ${start}: a head longer than its value needs`);
    pos += width;
    if (typeof value === "bigint" && value <= Number.MAX_SAFE_INTEGER) value = Number(value);
  }
  switch (major) {
    case 0:
      return [value, pos];
    case 1:
      return [typeof value === "bigint" || value === Number.MAX_SAFE_INTEGER ? -1n - BigInt(value) : -1 - value, pos];
    case 2:
    case 3: {
      if (value > data.length - pos) throw malformed(`byte ${start}: a string longer than the payload`);
      const bytes = data.subarray(pos, pos + value);
      if (major === 2) return [bytes.slice(), pos + value];
      try {
        return [UTF8.decode(bytes), pos + value];
      } catch {
        throw malformed(`byte ${start}: text that is not UTF-8`);
      }
    }
    case 4:
    case 5: {
      if (value > (data.length - pos) / (major - 3)) throw malformed(`byte ${start}: more items than bytes`);
      if (depth === 0) throw new DecodeError("too deep", `deeper than ${MAX_DEPTH} levels`);
      if (major === 4) {
        const array = [];
        for (let i = 0; i < value; i++) {
          const [item, end] = readItem(data, pos, depth - 1);
          array.push(item);
          pos = end;
        }
        return [array, pos];
      }
      const pairs = [];
      const seen = new Set();
      for (let i = 0; i < value; i++) {
        const [key, end] = readKey(data, pos, seen);
        const [item, after] = readItem(data, end, depth - 1);
        // Only a key that is an integer byte for byte is one of a cell: 1.0 and true are none.
        if (field && data[pos] <= 16) field(key, end, after);
        pairs.push([key, item]);
        pos = after;
      }
      return [plain(pairs), pos];
    }
    case 6:
      throw new DecodeError("tagged", `byte ${start}: tag ${value}`);
    default:
      if (value === 20 || value === 21) return [value === 21, pos];
      if (value === 22) return [null, pos];
      throw malformed(`byte ${start}: simple value ${value}`);
  }
}

/** A map's key at `pos`, which is no array or map and was not there before. */
function readKey(data, pos, seen) {
  if (pos < data.length && (data[pos] >> 5 === 4 || data[pos] >> 5 === 5)) throw malformed("an array or map as a map key");
  const [key, end] = readItem(data, pos, 0);
  const spelled = hex(data.subarray(pos, end));
  if (seen.has(spelled)) throw malformed("a key twice in a map");
  seen.add(spelled);
  return [key, end];
}

/** A map as an object where all keys are text, else as a Map. */
function plain(pairs) {
  if (pairs.some(([key]) => typeof key !== "string")) return new Map(pairs);
  const object = Object.create(null);
  for (const [key, value] of pairs) object[key] = value;
  return { ...object };
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

function head(major, value) {
  if (value < 24) return [(major << 5) | value];
  if (value < 0x100) return [(major << 5) | 24, value];
  if (value < 0x10000) return [(major << 5) | 25, value >> 8, value & 255];
  if (value < 0x100000000) return [(major << 5) | 26, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  const bytes = new Uint8Array(9);
  bytes[0] = (major << 5) | 27;
  new DataView(bytes.buffer).setBigUint64(1, BigInt(value));
  return bytes;
}

function join(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function compare(a, b) {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/** A value as deterministic CBOR; throws InvalidArgument for what has no place in a body. */
function writeItem(value, depth, what) {
  if (value === null || value === undefined) return [0xf6];
  if (typeof value === "boolean") return [value ? 0xf5 : 0xf4];
  if (typeof value === "bigint" && Number.isSafeInteger(Number(value))) value = Number(value);
  if (typeof value === "bigint" || Number.isSafeInteger(value)) {
    if (Object.is(value, -0)) return [0xf9, 0x80, 0];
    if (value > 0xffffffffffffffffn || value < -0x10000000000000000n) throw new InvalidArgument(what, "an integer of more than 64 bits");
    return value >= 0 ? head(0, value) : head(1, typeof value === "bigint" ? -1n - value : -1 - value);
  }
  if (typeof value === "number") return writeFloat(value);
  if (typeof value === "string") {
    if (!isWellFormed(value)) throw new InvalidArgument(what, "text with a lone surrogate");
    const bytes = TEXT.encode(value);
    return join([head(3, bytes.length), bytes]);
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    const bytes = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return join([head(2, bytes.length), bytes]);
  }
  if (typeof value !== "object") throw new InvalidArgument(what, `a ${typeof value} is no CBOR value without tags`);
  if (depth === 0) throw new InvalidArgument(what, `deeper than ${MAX_DEPTH - (what === "message" ? 2 : 1)} levels`);
  if (Array.isArray(value)) return join([head(4, value.length), ...Array.from(value, (item) => writeItem(item, depth - 1, what))]);
  if (!(value instanceof Map) && ![Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    throw new InvalidArgument(what, `a ${value.constructor?.name} is no CBOR value without tags`);
  }
  const pairs = (value instanceof Map ? [...value] : Object.entries(value)).map(([key, item]) => {
    if (typeof key === "object" && key !== null && !ArrayBuffer.isView(key)) throw new InvalidArgument(what, "an array or map as a map key");
    return [join([writeItem(key, 0, what)]), writeItem(item, depth - 1, what)];
  });
  pairs.sort(([a], [b]) => compare(a, b));
  if (pairs.some(([key], i) => i && compare(key, pairs[i - 1][0]) === 0)) throw new InvalidArgument(what, "a key twice in a map");
  return join([head(5, pairs.length), ...pairs.flat()]);
}

const isWellFormed = (text) => !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text);

/** A float in the shortest width that keeps it (RFC 8949, 4.2.2). */
function writeFloat(value) {
  if (Number.isNaN(value)) return [0xf9, 0x7e, 0];
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat32(0, value);
  if (view.getFloat32(0) === value) {
    const bits = view.getUint32(0);
    for (const short of halves(bits)) if (half(short) === value) return [0xf9, short >> 8, short & 255];
    return [0xfa, ...new Uint8Array(view.buffer, 0, 4)];
  }
  view.setFloat64(0, value);
  return [0xfb, ...new Uint8Array(view.buffer)];
}

/** The half-width candidates for a single-width float's bits. */
function halves(bits) {
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 255) - 127;
  const fraction = bits & 0x7fffff;
  if (exponent === 128) return [sign | 0x7c00];
  if (exponent >= -14 && exponent < 16) return [sign | ((exponent + 15) << 10) | (fraction >> 13)];
  if (exponent >= -24 && exponent < -14) return [sign | ((fraction | 0x800000) >> (-exponent - 1))];
  return [];
}

/** A content or response as CBOR, at most 8 KiB; throws InvalidArgument. */
export function encodeBody(value, what = "content", around = 0) {
  const data = Uint8Array.from(writeItem(value, MAX_DEPTH - 1 - around, what));
  const most = MAX_BODY - 2 * around;
  if (data.length > most) throw new InvalidArgument(what, `${data.length} bytes encoded; at most ${most} are allowed`);
  return data;
}

/** A message likewise: an array stands around it in its cell. */
export const encodeMessage = (value) => encodeBody(value, "message", 1);

/** The value in a body that came with a decoded cell. */
export const decodeBody = (data) => (data === undefined ? undefined : readItem(data, 0, MAX_DEPTH)[0]);

// --- wire: cells and topics (docs/protocol.md, Cells, Topics) ----------------------------------

const STATES = { invite: ["ringing", "accepted", "ended", "over"], answer: ["received", "accepted", "refused", "failed", "seen", "talking", "over"], presence: ["offline", "online"] };
/** In these a cell says what a call that goes on has to say: its body is an array of messages. */
const TALKS = { invite: ["accepted", "over"], answer: ["talking", "over"], presence: [] };
/** In these it only offers to stay in the call. */
const OFFERS = { invite: ["ringing"], answer: ["accepted"], presence: [] };
const MAX_MESSAGES = 64;
const FINAL = new Set(["refused", "failed", "seen", "over"]);
const ENDED = ["canceled", "answered elsewhere", "expired", "peer offline", "no response", "caller restarted"];
const ANSWERED = ["declined", "busy", "do not disturb", "accept failure", "callee expired", "caller lost"];
const REFUSALS = ANSWERED.slice(0, 3);
/** Reasons 7 and up. */
const OVER = ["hung up", "peer lost", "restarted", "time is up", "logged out"];
const BODY = 5;
/** Key, name, type, size or most, kinds of cell that have it (with "!": required). */
const FIELDS = [
  [2, "epoch", "bytes", 8, "invite! answer! presence!"],
  [3, "seq", "uint", Number.MAX_SAFE_INTEGER, "invite! answer!"],
  [4, "ttl", "uint", MAX_TTL, "invite"],
  [BODY, "body", "any", 0, "invite answer"],
  [6, "channel", "text", MAX_CHANNEL, "invite"],
  [7, "reason", "uint", Number.MAX_SAFE_INTEGER, "invite answer"],
  [8, "group", "bytes", 16, "invite"],
  [9, "time", "uint", Number.MAX_SAFE_INTEGER, "invite presence"],
  [10, "ask", "bool", 0, "answer presence"],
  [11, "talk", "said", 1, "invite answer"],
  [12, "count", "said", 0, "invite answer"],
  [13, "got", "said", 0, "invite answer"],
  [14, "generation", "uint", Number.MAX_SAFE_INTEGER, "presence"],
  [15, "age", "uint", Number.MAX_SAFE_INTEGER, "presence"],
  [16, "asker", "bytes", 8, "invite"],
];

/** What a cell says of its talk, `{count, got, messages}`, as its fields. */
function talkFields(kind, { state, talk }) {
  if (!talk) return undefined;
  if (!TALKS[kind].includes(state)) return { talk: 1 };
  const { count, got, messages = [] } = talk;
  return { talk: 1, count: count || undefined, got, body: messages.length ? join([head(4, messages.length), ...messages]) : undefined };
}

/** The bytes of a cell: `{state, epoch, …}` by the names above, the body encoded already. */
export function encodeCell(kind, cell) {
  const parts = [[0, 1, 1], head(0, STATES[kind].indexOf(cell.state))];
  cell = { ...cell, ...talkFields(kind, cell) };
  let pairs = 2;
  for (const [key, name, type, , kinds] of FIELDS) {
    const value = cell[name];
    if (!kinds.includes(kind) || value === undefined || value === false) continue;
    if (value === 0 && kind === "presence" && key > 10) continue;
    pairs++;
    parts.push([key], type === "any" ? value : type === "uint" || type === "said" ? head(0, value) : writeItem(value, 0, name));
  }
  return join([head(5, pairs), ...parts]);
}

/** The cell in `data`; throws DecodeError, and nothing else, whatever the bytes are. */
export function decodeCell(kind, data) {
  if (data.length > MAX_CELL) throw new DecodeError("oversized", `${data.length} bytes; a cell has at most ${MAX_CELL}`);
  const known = new Map();
  const [map, end] = readItem(data, 0, MAX_DEPTH, (key, start, after) => {
    if (key === BODY && after - start > MAX_BODY) throw new DecodeError("oversized", `a body of ${after - start} bytes`);
    known.set(key, data.subarray(start, after));
  });
  if (end !== data.length) throw malformed(`${data.length - end} bytes after the end`);
  if (data[0] >> 5 !== 5) throw new DecodeError("wrong type", `a cell is a map, not ${typeof map}`);
  const get = (key, type, most, required) => {
    const bytes = known.get(key);
    if (bytes === undefined) {
      if (required) throw new DecodeError("missing key", `key ${key} is missing`);
      return undefined;
    }
    if (type === "any") return bytes.slice();
    const [value] = readItem(bytes, 0, MAX_DEPTH);
    const fits = {
      uint: () => bytes[0] >> 5 === 0 && typeof value === "number" && value <= most,
      bytes: () => value instanceof Uint8Array && value.length === most,
      text: () => typeof value === "string" && TEXT.encode(value).length <= most,
      bool: () => typeof value === "boolean",
    };
    if (!fits[type]()) throw new DecodeError("wrong type", `key ${key} is no ${type} of ${most}`);
    return value;
  };
  const version = get(0, "uint", Number.MAX_SAFE_INTEGER, true);
  if (version !== 1) throw new DecodeError("unknown version", `version ${version}; this end speaks 1`);
  const cell = { state: STATES[kind][get(1, "uint", STATES[kind].length - 1, true)] };
  for (const [key, name, type, most, kinds] of FIELDS) {
    if (!kinds.includes(kind) || type === "said") continue;
    const value = get(key, type, most, kinds.includes(`${kind}!`) || (name === "ttl" && cell.state === "ringing"));
    if (value !== undefined && value !== false && !(["ttl", "asker"].includes(name) && cell.state !== "ringing")) cell[name] = value;
  }
  const talk = known.get(11);
  if (!talk || talk.length > 1 || talk[0] !== 1) {
    // Anything but 1 is of a later addition, and read as if it were absent.
    if (["talking", "over"].includes(cell.state)) throw new DecodeError("wrong type", `${cell.state} is none without talk`);
  } else if (OFFERS[kind].includes(cell.state)) cell.talk = {};
  else if (TALKS[kind].includes(cell.state)) {
    const messages = readMessages(cell.body);
    delete cell.body;
    cell.talk = { count: get(12, "uint", Number.MAX_SAFE_INTEGER) ?? 0, got: get(13, "uint", Number.MAX_SAFE_INTEGER), messages };
    if (messages.length > cell.talk.count) throw new DecodeError("wrong type", `${messages.length} messages, the last numbered ${cell.talk.count}`);
  }
  return cell;
}

/** The messages in a body that is known to be sound, each encoded. */
function readMessages(body) {
  if (body === undefined) return [];
  const size = body[0] === 0x98 ? body[1] : body[0] - 0x80;
  if (!(size >= 0 && size <= MAX_MESSAGES && body[0] >> 5 === 4)) throw new DecodeError("wrong type", `key ${BODY} is no array of at most ${MAX_MESSAGES} messages`);
  const messages = [];
  for (let pos = body[0] === 0x98 ? 2 : 1; messages.length < size; ) {
    const [, end] = readItem(body, pos, MAX_DEPTH);
    messages.push(body.slice(pos, end));
    pos = end;
  }
  return messages;
}

/** A peer id as topic level, user name and, with more behind it, client id; throws InvalidArgument. */
export function escapePeer(peer, what = "peer") {
  if (typeof peer !== "string") throw new InvalidArgument(what, `a peer id is a string, not ${typeof peer}`);
  const length = [...peer].length;
  if (length < 1 || length > 64) throw new InvalidArgument(what, `a peer id has 1 to 64 characters, not ${length}`);
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f]/.test(peer) || !isWellFormed(peer)) throw new InvalidArgument(what, "a peer id has no control characters or lone surrogates");
  const level = Array.from(TEXT.encode(peer), (b) => (/[A-Za-z0-9_-]/.test(String.fromCharCode(b)) ? String.fromCharCode(b) : `%${hex([b]).toUpperCase()}`)).join("");
  if (level.length > 192) throw new InvalidArgument(what, "over 192 bytes once escaped for a topic; shorten it");
  return level;
}

/** The peer id that `level` spells, or undefined if it is not the one spelling of any. */
export function unescapePeer(level) {
  try {
    const peer = decodeURIComponent(level);
    return escapePeer(peer) === level ? peer : undefined;
  } catch {
    return undefined;
  }
}

const presenceTopic = (realm, peer) => `${realm}/v1/${escapePeer(peer)}/presence`;
const cellTopic = (realm, kind, owner, writer, callId) => `${realm}/v1/${escapePeer(owner)}/${kind}/${escapePeer(writer)}/${callId}`;

/** A topic taken apart: `{presence}` or `{kind, owner, writer, callId}`; undefined if it is none of this realm's. */
export function parseTopic(realm, topic) {
  const levels = topic.split("/");
  if (levels[0] !== realm || levels[1] !== "v1") return undefined;
  const owner = unescapePeer(levels[2] ?? "");
  if (owner === undefined) return undefined;
  if (levels.length === 4 && levels[3] === "presence") return { presence: owner };
  const writer = unescapePeer(levels[4] ?? "");
  if (levels.length !== 6 || !["invite", "answer"].includes(levels[3]) || writer === undefined) return undefined;
  if (!/^[A-Za-z0-9_-]{21}[AQgw]$/.test(levels[5])) return undefined;
  return { kind: levels[3], owner, writer, callId: levels[5] };
}

/** A fresh call id: 16 random bytes, base64url. */
export function newCallId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
}

/** What of the protocol a peer may leave out and this one has: docs/vectors/ has vectors of each. */
export const PROFILES = ["talk"];

// --- core: one login's calls; time, ids and bytes come in, effects go out ----------------------

/** The protocol's timers (seconds) and caps; a peer may have its own. */
export const SETTINGS = Object.freeze({
  ringTimeout: 60,
  ackTimeout: 30,
  acceptTimeout: 5,
  ringSlack: 2,
  callerLostGrace: 10,
  resendFirst: 2,
  resendMax: 30,
  probeInterval: 1,
  missedCallTtl: 86_400,
  dedupWindow: 600,
  presenceLinger: 600,
  startupTimeout: 2,
  logoutGrace: 1,
  talkLimit: 7200,
  peerLostGrace: 10,
  linkLostGrace: 30,
  maxCallsPerCaller: 8,
  maxCalls: 64,
});
const MAX_KEPT = 256;
const MAX_REMEMBERED = 4096;
const ENDED_CONTENT = 512;
const PUBACK_TIMEOUT = 5;
const STRIKES = 2;

/** A command that is not legal where the call stands; nothing was changed by it. */
export class CallError extends Error {
  constructor(code, problem) {
    super(problem);
    this.name = "CallError";
    this.code = code;
  }
}

/** A Map of at most `most` entries; what was set longest ago goes first. */
class Memory extends Map {
  constructor(most) {
    super();
    this.most = most;
  }
  set(key, value) {
    this.delete(key);
    super.set(key, value);
    if (this.size > this.most) this.delete(this.keys().next().value);
    return this;
  }
}

/** So many at once, then so many a second: for each peer (64, 20), for all (256, 80). */
class Pace {
  shares = new Memory(MAX_KEPT);
  left = [256, -Infinity];
  allows(peer, now) {
    const fill = ([have, at], most, rate) => Math.min(most, have + (now - at) * rate);
    const share = fill(this.shares.get(peer) ?? [64, -Infinity], 64, 20);
    const total = fill(this.left, 256, 80);
    if (share < 1 || total < 1) return false;
    this.shares.set(peer, [share - 1, now]);
    this.left = [total - 1, now];
    return true;
  }
}

/** Two at once, then one a second: until when it is quiet now; undefined for "not yet". */
const onceMore = (quiet, now) => (quiet > now + 1 ? undefined : Math.max(quiet, now) + 1);
const TIMES = ["ringAt", "ackAt", "acceptAt", "resendAt", "keepAt", "cancelAt", "offlineAt"];
/** The earliest deadline of a call. */
function due(call) {
  let at = Infinity;
  for (const name of TIMES) if (call[name] < at) at = call[name];
  return talks(call) ? Math.min(at, talkDue(call.talk)) : at;
}
const keyOf = (peer, callId) => `${peer}\n${callId}`;
const same = (a, b) => a !== undefined && b !== undefined && compare(a, b) === 0;

/**
 * What a record holds of a call that goes on: a value, changed as a whole. `can`: both have said so
 * far that they can stay; `up`: it goes on here; `epoch`: the other's login; `heard`: the other is
 * known to be in it; `count` messages were said or wait, the last of them are `waiting` for their
 * acknowledgement; `got` of the other's were handled; `limitAt`, `lostAt`, `cutAt`: when it ends by
 * its time, without its peer, without a link; `reason`: why it is over.
 */
const OFFERED = { can: true, up: false, heard: false, count: 0, got: 0, waiting: [], quiet: 0 };
const talks = (call) => Boolean(call.talk?.up);
const talkDue = ({ limitAt = Infinity, lostAt = Infinity, cutAt = Infinity }) => Math.min(limitAt, lostAt, cutAt);
const over = (talk, reason) => ({ ...talk, up: false, reason, limitAt: undefined, lostAt: undefined, cutAt: undefined });

/** What a cell says of it now: the oldest that wait, as many as fit. */
function saidOf({ count, got, heard, waiting }) {
  let size = 2;
  let carried = 0;
  while (carried < waiting.length && (size += waiting[carried].length) <= MAX_BODY) carried++;
  return { count: count - waiting.length + carried, got: heard ? got : undefined, messages: waiting.slice(0, carried) };
}

/** Take in what the other's cell says of it: as it is then, and what is new in it. */
function readTalk(talk, { count = 0, got = 0, messages = [] }) {
  const acknowledged = talk.count - talk.waiting.length;
  if (got > acknowledged && got <= talk.count) talk = { ...talk, waiting: talk.waiting.slice(got - acknowledged) };
  const news = count - talk.got;
  if (news <= 0 || !messages.length) return [talk, [], messages.length > 0];
  if (count - messages.length > talk.got) return [talk, [], false];
  return [{ ...talk, got: count }, messages.slice(-news), false];
}

// Both tables: phase × input → the next phase, then what to do, in order; what is missing is illegal.
const DECISIONS = { cancel: "ended say canceled", logout: "ended say canceled", elsewhere: "ended say canceled", ringTimeout: "ended say failure" };
const IN_CLEARING = { received: "clearing", accepted: "clearing", refused: "clearing", failed: "clearing", talking: "clearing", over: "clearing" };
/** The caller's end. */
export const CALLER = {
  sent: {
    received: "received receivedByPeer",
    accepted: "accepted say others receivedByPeer accepted",
    refused: "clearing clear receivedByPeer refused",
    failed: "clearing clear receivedByPeer failure",
    ...DECISIONS,
    offline: "ended say failure",
    silent: "ended say failure",
    resend: "sent say",
    notTaken: "gone failure",
  },
  received: {
    received: "received",
    accepted: "accepted say others accepted",
    refused: "clearing clear refused",
    failed: "clearing clear failure",
    ...DECISIONS,
    notTaken: "gone failure",
  },
  accepted: {
    received: "accepted",
    accepted: "accepted",
    seen: "clearing clear talkEnded",
    failed: "clearing clear peerLost talkEnded",
    refused: "clearing clear peerLost talkEnded",
    talking: "talking",
    over: "clearing clear talkEnded",
    hangUp: "over say talkEnded",
    resend: "accepted say",
    notTaken: "accepted",
    keepExpired: "clearing clear",
  },
  ended: {
    received: "ended",
    accepted: "ended",
    seen: "clearing clear",
    failed: "clearing clear",
    refused: "clearing clear",
    talking: "ended",
    over: "clearing clear",
    resend: "ended say",
    notTaken: "gone",
    keepExpired: "clearing clear",
  },
  talking: {
    received: "talking",
    accepted: "talking",
    talking: "talking",
    over: "clearing clear talkEnded",
    seen: "clearing clear talkEnded",
    failed: "clearing clear talkEnded",
    refused: "clearing clear talkEnded",
    hangUp: "over say talkEnded",
    resend: "talking say",
  },
  over: {
    received: "over",
    accepted: "over",
    talking: "over",
    over: "clearing clear",
    seen: "clearing clear",
    refused: "clearing clear",
    failed: "clearing clear",
    resend: "over say",
    notTaken: "gone",
    keepExpired: "clearing clear",
  },
  clearing: { ...IN_CLEARING, seen: "clearing", acked: "gone", notTaken: "gone" },
};

const AGAIN = { talks: "over say", talkOver: "over say", ringing: "over say", retained: "over say", accepted: "over say", ended: "over say" };
const NOT_RUNG = {
  talks: "over say | failed accept failure",
  talkOver: "over say | seen accept failure",
  ringing: "ringing say extend received",
  retained: "probing ask",
  accepted: "over say | failed accept failure",
  ended: "over say missed | seen",
  turnAway: "over say missed | refused",
  overload: "over say | refused",
};
/** The callee's end; `new` is a call not known here. Behind the bar: the answer from then on, and the reason, where the cell or command has none. */
export const CALLEE = {
  new: NOT_RUNG,
  probing: {
    ...NOT_RUNG,
    cleared: "clearing clear | seen canceled",
    alive: "ringing received",
    resend: "probing ask",
    keepExpired: "over say missed | failed callee expired",
    logout: "gone",
    notTaken: "gone",
  },
  ringing: {
    talks: "over say failure | failed accept failure",
    talkOver: "over say failure | seen accept failure",
    ringing: "ringing say extend",
    retained: "ringing ask",
    accepted: "over say failure | failed accept failure",
    ended: "over say end | seen",
    cleared: "clearing clear canceled | seen canceled",
    accept: "accepting say",
    refuse: "over say refused | refused",
    ringExpired: "over say failure | failed callee expired",
    replaced: "over say failure | failed caller lost",
    logout: "gone failure | failed logged out",
    resend: "ringing ask",
    notTaken: "gone failure | failed not allowed",
  },
  accepting: {
    talks: "talking say accepted talkStarted | talking accepted",
    ringing: "accepting say",
    retained: "accepting say",
    accepted: "over say accepted | seen accepted",
    ended: "over say end | seen",
    cleared: "clearing clear canceled | seen canceled",
    acceptTimeout: "over say failure | failed accept failure",
    resend: "accepting say",
    logout: "over say failure | failed logged out",
    notTaken: "over say failure | failed not allowed",
  },
  talking: {
    ringing: "talking",
    retained: "talking",
    talks: "talking",
    talkOver: "over say talkEnded | seen accepted",
    accepted: "over say talkEnded | seen accepted", // a later login of the caller's, which does not talk
    ended: "over say talkEnded | seen accepted",
    cleared: "clearing clear talkEnded | seen accepted",
    hangUp: "over say talkEnded | over accepted",
    resend: "talking say",
  },
  over: { ...AGAIN, resend: "over say", cleared: "clearing clear", keepExpired: "clearing clear", logout: "over", notTaken: "gone" },
  clearing: { ...AGAIN, cleared: "clearing", acked: "remembered", logout: "clearing", notTaken: "gone" },
  remembered: { ...AGAIN, cleared: "remembered clear", forget: "gone", logout: "remembered" },
};
const UNDECIDED = ["sent", "received"];
const DECIDED = ["accepted", "ended", "over"];
const OPEN = ["ringing", "accepting"];
const LIVE = [...OPEN, "talking"];
const WATCHING = ["probing", ...LIVE];
const TOLD = new Set(["receivedByPeer", "accepted", "refused", "failure", "received"]);
const ENDS = { cancel: "canceled", logout: "canceled", elsewhere: "answered elsewhere", ringTimeout: "expired", offline: "peer offline", silent: "no response", accepted: "accepted", notTaken: "not allowed" };
/** What an invite says in a phase of another name. */
const SAYS = { sent: "ringing", received: "ringing", talking: "accepted" };
const overReason = (number) => OVER[number - 7] ?? "hung up";
/** What ended it here alone is "peer lost" for the other. */
const overNumber = (reason) => (OVER.includes(reason) ? OVER.indexOf(reason) + 7 : 8);
const refusal = (number) => ANSWERED[number <= 3 ? number - 1 : 0] ?? "declined";
const failure = (number) => (number >= 4 && ANSWERED[number - 1]) || "accept failure";

/** The next of a cell; at its end it stays. */
const nextSeq = (call) => (call.seq = Math.min(call.seq + 1, Number.MAX_SAFE_INTEGER));

/** What both sides share: their calls by key, what is due, and how a cell is published. */
class Side {
  calls = new Map();
  remembered = new Memory(MAX_REMEMBERED);
  strangers = new Pace();
  constructor(engine, kind) {
    this.engine = engine;
    this.kind = kind;
  }
  maySay(key) {
    return this.engine.up && this.engine.outbox.maySay(this.kind + key);
  }
  isAside(key) {
    return this.engine.outbox.aside.has(this.kind + key);
  }
  clear(call, purpose) {
    if (this.maySay(call.key)) this.engine.sayCell(this.kind, call, undefined, purpose);
  }
  resync(now) {
    for (const call of this.calls.values()) if (call.talk?.cutAt !== undefined) call.talk = { ...call.talk, cutAt: undefined };
    for (const key of [...this.calls.keys()]) this.sayKey(key, now);
  }
  sayKey(key, now) {
    const call = this.calls.get(key);
    if (call?.phase === "clearing") this.clear(call, "clear");
    else if (call) this.say(call, now, { ask: call.phase === "probing" });
  }
  deadline() {
    let at = Infinity;
    for (const call of this.calls.values()) at = Math.min(at, due(call));
    return at;
  }
  fire(now) {
    for (;;) {
      let first;
      for (const call of this.calls.values()) if (due(call) <= now && (!first || due(call) < due(first))) first = call;
      if (!first) return;
      this.fireOne(first, now);
    }
  }
  mayAnswer(peer, now) {
    if (this.strangers.allows(peer, now)) return true;
    this.engine.count("too many");
    return false;
  }
  tell(name, call, more, message) {
    this.engine.out.push({ tell: name, side: this.kind === "invite" ? "local" : "remote", call: { ...call, ...more }, message });
  }

  // --- calls that go on after accepted (docs/protocol.md, Talk)

  inTalk({ peer, callId }) {
    const call = this.calls.get(keyOf(peer, callId));
    if (call && talks(call)) return call;
    throw new CallError("ALREADY_END", "the call is over, or never went on after accepted");
  }

  message(command, now) {
    const call = this.inTalk(command);
    const { talk } = call;
    if (talk.waiting.length >= MAX_MESSAGES) throw new CallError("TOO_MANY_MESSAGES", `${MAX_MESSAGES} messages wait for the other side; send again when it has handled some`);
    const said = saidOf(talk).count;
    call.talk = { ...talk, count: talk.count + 1, waiting: [...talk.waiting, command.body] };
    // What finds no room in the cell waits until there is some.
    if (saidOf(call.talk).count > said) this.say(call, now);
  }

  hangUp(command, now) {
    this.endTalk(this.inTalk(command), command.reason, now);
  }

  endTalks(reason, now) {
    for (const call of [...this.calls.values()]) if (talks(call)) this.endTalk(call, reason, now);
  }

  endTalk(call, reason, now) {
    call.talk = over(call.talk, reason);
    this.step(call, "hangUp", now);
  }

  /** The call is up from now on, with that login of the other. */
  begin(call, epoch, now, heard) {
    const { settings, watches } = this.engine;
    const inDoubt = !heard || (watches.of(call.peer).current && !watches.there(call.peer, epoch));
    const lostAt = inDoubt ? now + settings.linkLostGrace : undefined;
    call.talk = { ...call.talk, can: true, up: true, epoch, heard, limitAt: now + settings.talkLimit, lostAt };
  }

  /** Take in what the other's cell says of the talk; after the `last` no answer is due. */
  hear(call, said, now, last) {
    const before = saidOf(call.talk).count;
    const [talk, messages, repeated] = readTalk(call.talk, said);
    call.talk = talk;
    if (!last) {
      if (messages.length || saidOf(talk).count > before) this.say(call, now);
      else if (repeated || said.got === undefined) {
        const quiet = onceMore(talk.quiet, now);
        if (quiet !== undefined) {
          call.talk = { ...talk, quiet };
          this.say(call, now);
        }
      } else if (!talk.waiting.length) call.resendAt = undefined;
    }
    for (const message of messages) this.tell("callMessage", call, {}, message);
  }

  /** What the presence of somebody says who may be in a call with this peer. */
  peerSeen(peer, presence, now) {
    const { settings } = this.engine;
    for (const call of [...this.calls.values()]) {
      const { talk } = call;
      if (call.peer !== peer || !talks(call)) continue;
      const online = presence?.state === "online";
      const its = same(presence?.epoch, talk.epoch);
      if (online && its) {
        if (talk.heard) call.talk = { ...talk, lostAt: undefined };
        // Another login is doubt, not proof: one that lives says itself that the call is over.
      } else if (!presence || online || its) {
        const at = now + (presence ? settings.peerLostGrace : settings.linkLostGrace);
        if (!(talk.lostAt <= at)) call.talk = { ...talk, lostAt: at };
      }
    }
  }

  /** The link is gone: what goes on ends if it does not come back. */
  cut(now) {
    for (const call of this.calls.values()) {
      if (talks(call)) call.talk = { ...call.talk, cutAt: call.talk.cutAt ?? now + this.engine.settings.linkLostGrace };
    }
  }

  /** Whether a deadline of the talk was due; it has ended then. */
  talkDue(call, now) {
    if (!talks(call) || !(talkDue(call.talk) <= now)) return false;
    this.endTalk(call, call.talk.limitAt <= now ? "time is up" : "peer lost", now);
    return true;
  }

  /** The broker does not take a cell of a talk: it is over; true if its last word is tried, without messages. */
  talkNotTaken(key, now) {
    const { talk } = this.calls.get(key);
    if (!talk?.up && talk?.reason === undefined) return false;
    if (talk.up) this.endTalk(this.calls.get(key), "not allowed", now);
    const call = this.calls.get(key);
    call.talk = { ...call.talk, waiting: [] };
    if (!talk.waiting.length) return false;
    this.engine.outbox.lift(this.kind + key);
    return true;
  }

  giveUpTalk(call) {
    if (talks(call)) this.tell("callEnded", call, { talk: over(call.talk, "logged out") });
  }
}

class CallerSide extends Side {
  send({ peer, callId, body, channel, group, time, ringTimeout, ackTimeout }, now) {
    const { engine } = this;
    const key = keyOf(peer, callId);
    if (this.calls.has(key)) throw new CallError("ALREADY_SENT", "it was sent before; make a new call");
    const ring = ringTimeout ?? engine.settings.ringTimeout;
    const ack = ackTimeout ?? engine.settings.ackTimeout;
    const call = { key, peer, callId, phase: "sent", body, channel, group, time, seq: 0, quiet: 0, ringAt: now + ring, ackAt: now + ack, ackTimeout: ack, talk: engine.talk ? OFFERED : undefined };
    this.say(this.keep(call), now);
    engine.watchCall(peer);
    if (this.away(peer)) this.noteOffline(call);
  }

  cancel({ peer, callId }, now) {
    const call = this.calls.get(keyOf(peer, callId));
    if (!call || call.previous || !CALLER[call.phase].cancel) throw new CallError("ALREADY_END", "nothing to cancel: the call has ended");
    this.step(call, "cancel", now);
  }

  logOut(now) {
    this.endTalks("logged out", now);
    for (const call of [...this.calls.values()]) if (UNDECIDED.includes(call.phase)) this.step(call, "logout", now);
  }

  abort() {
    for (const call of this.calls.values()) {
      if (UNDECIDED.includes(call.phase) && !call.previous) this.tell("failure", call, { reason: "logged out" });
      else if (call.cancelPending) this.tellCanceled(call); // the broker's word for it does not come any more
      else this.giveUpTalk(call);
    }
    this.calls.clear();
  }

  /** Whether it rings and is asked again: then my presence, as the callee knows it, may be old. */
  asksAgain(peer, callId, now) {
    const call = this.calls.get(keyOf(peer, callId));
    return call && UNDECIDED.includes(call.phase) && call.quiet > 0 && onceMore(call.quiet, now) !== undefined && this.maySay(call.key);
  }

  answered(peer, callId, answer, now) {
    const key = keyOf(peer, callId);
    const lifted = this.engine.outbox.lift(this.kind + key); // who answers has read it
    let call = this.calls.get(key);
    if (!call) {
      if (!this.isAside(key)) this.unknown(peer, callId, answer, now);
      return;
    }
    // An "over" of a call that does not go on here is as final as any.
    if (answer.state === "over" && [...UNDECIDED, "accepted"].includes(call.phase) && !talks(call)) answer = { state: "failed", epoch: answer.epoch };
    const entry = CALLER[call.phase][answer.state];
    const talking = answer.state === "talking";
    if (entry === undefined || (talking && !this.goesOn(call, answer))) throw new DecodeError("out of place", `${answer.state} where it cannot be`);
    if (talks(call) && entry.includes("talkEnded")) {
      const last = answer.state === "over";
      if (last) this.hear(call, answer.talk, now, true);
      call.talk = over(call.talk, last ? overReason(answer.reason) : "peer lost");
    }
    call = this.step(call, answer.state, now, answer);
    if (talking) {
      if (talks(call)) this.talking(call, answer, now);
    } else if ((answer.ask || lifted) && !entry.includes(" say") && call.phase !== "clearing") this.sayFor(call, now, answer.ask && answer.epoch);
  }

  /** A cleared answer: of a call that goes on here it goes on no more, whoever took it away. */
  answerCleared(peer, callId, now) {
    const call = this.calls.get(keyOf(peer, callId));
    if (!call || !talks(call)) return;
    call.talk = over(call.talk, "peer lost");
    this.step(call, "seen", now);
  }

  /** Whether "talking" has a place there: of the login that accepted, if it still goes on. */
  goesOn(call, answer) {
    return !["accepted", "talking"].includes(call.phase) || (talks(call) && same(answer.epoch, call.talk.epoch));
  }

  talking(call, answer, now) {
    if (!call.talk.heard) {
      const there = this.engine.watches.there(call.peer, answer.epoch);
      call.talk = { ...call.talk, heard: true, lostAt: there ? undefined : call.talk.lostAt };
      // What was said with the decision is said again as any message is.
      if (call.talk.waiting.length) Object.assign(call, { resendAt: now + this.engine.settings.resendFirst, delay: this.engine.settings.resendFirst });
    }
    this.hear(call, answer.talk, now);
  }

  found(peer, callId, cell, now) {
    const key = keyOf(peer, callId);
    if (this.calls.has(key) || this.remembered.has(key) || this.calls.size >= MAX_KEPT) return;
    this.adopt({ peer, callId, cell }, now, this.engine.inbox ? now + this.engine.settings.probeInterval : undefined);
    this.engine.watchCall(peer);
  }

  /** A call that this login did not make: what rang there is ended, a decision stands. */
  adopt({ peer, callId, cell }, now, resendAt) {
    if (cell.talk && cell.state !== "ringing") {
      // It went on, and does not in this login: nothing that was said in it is said again.
      const talk = { ...OFFERED, heard: true, reason: cell.state === "over" ? overReason(cell.reason) : "restarted" };
      return this.keep({ ...this.former(peer, callId, cell, now, resendAt), phase: "over", reason: "accepted", talk });
    }
    const reason = cell.state === "accepted" ? "accepted" : cell.state === "ended" ? ENDED[cell.reason - 1] ?? "expired" : "caller restarted";
    const call = { ...this.former(peer, callId, cell, now, resendAt), phase: cell.state === "accepted" ? "accepted" : "ended", reason };
    Object.assign(call, { body: cell.body, channel: cell.channel, group: cell.group, time: cell.time });
    return this.keep(shorten(call));
  }

  former(peer, callId, { seq }, now, resendAt) {
    const { probeInterval, missedCallTtl } = this.engine.settings;
    return { key: keyOf(peer, callId), peer, callId, previous: true, seq, quiet: 0, resendAt, delay: probeInterval, keepAt: now + missedCallTtl };
  }

  acked(purpose, key, now) {
    const call = this.calls.get(key);
    if (!call) return;
    if (purpose === "cancel") this.tellCanceled(call);
    else if (call.phase === "clearing") {
      this.step(call, "acked", now);
      this.remember(key, now);
    }
  }

  setAside(key, now) {
    if (!this.calls.has(key) || this.talkNotTaken(key, now)) return;
    this.step(this.calls.get(key), "notTaken", now);
    if (!this.calls.has(key)) this.remember(key, now);
  }

  disconnected() {
    for (const call of [...this.calls.values()]) {
      this.tellCanceled(call);
      call.resendAt = call.offlineAt = undefined;
    }
  }

  watched(peer, now) {
    if (!this.away(peer)) return;
    for (const call of this.calls.values()) if (call.peer === peer && call.phase === "sent" && !call.offlineTold) call.offlineAt = now + 1;
  }

  back(peer, now) {
    for (const call of [...this.calls.values()]) if (call.peer === peer && saysAgain(call)) this.sayFor(call, now);
  }

  gone(peer) {
    for (const call of this.calls.values()) {
      if (call.peer !== peer) continue;
      if (DECIDED.includes(call.phase) || call.phase === "talking") call.resendAt = undefined;
      else if (call.phase === "sent") this.noteOffline(call);
    }
  }

  unfinished() {
    return [...this.calls.values()].some((call) => !call.previous && (call.phase === "clearing" || !this.engine.watches.of(call.peer).away));
  }

  fireOne(call, now) {
    if (this.talkDue(call, now)) return;
    if (call.cancelAt <= now) this.tellCanceled(call);
    else if (call.ringAt <= now) this.step(call, "ringTimeout", now);
    else if (call.ackAt <= now) {
      if (call.said) this.step(call, this.away(call.peer) ? "offline" : "silent", now);
      else call.ackAt = undefined; // there is no link to say it on
    } else if (call.keepAt <= now) this.step(call, "keepExpired", now);
    else if (call.offlineAt <= now) {
      call.offlineAt = undefined;
      if (this.away(call.peer)) this.noteOffline(call);
    } else this.step(call, "resend", now);
  }

  step(call, on, now, answer) {
    const before = call.phase;
    const [phase, ...todo] = CALLER[before][on].split(" ");
    if (phase !== before) {
      call.phase = phase;
      call.resendAt = undefined;
      if (phase === "received") call.ackAt = call.offlineAt = undefined;
      else if (!UNDECIDED.includes(before)) call.keepAt = undefined;
      else {
        call.reason = on === "refused" ? refusal(answer.reason) : on === "failed" ? failure(answer.reason) : ENDS[on];
        if (answer) call.response = answer.body;
        call.cancelPending = todo.includes("canceled");
        call.ringAt = call.ackAt = call.offlineAt = undefined;
      }
      if (phase === "clearing" && this.isAside(call.key)) call.phase = "gone"; // its clear would not be taken either
      if (DECIDED.includes(phase)) call.keepAt = now + this.engine.settings.missedCallTtl;
      if (phase === "accepted" && call.talk && answer.talk) this.begin(call, answer.epoch, now, false);
      else if (phase === "accepted") call.talk = undefined;
    }
    if (todo[0] === "say") this.say(call, now, { again: on === "resend" });
    if (todo[0] === "clear") this.clear(call, "clear");
    this.keep(call);
    if (["clearing", "gone"].includes(call.phase) && before !== "clearing") {
      this.engine.leaveCall(call.peer, now);
      this.tellCanceled(call);
    }
    for (const act of todo) {
      if (TOLD.has(act) && !call.previous) {
        this.tell(act, call);
        if (act === "accepted" && talks(call)) this.tell("callStarted", call);
      } else if (act === "talkEnded" && call.talk?.reason) this.tell("callEnded", call);
      else if (act === "others" && call.group) {
        for (const leg of [...this.calls.values()]) {
          if (leg !== call && same(leg.group, call.group) && UNDECIDED.includes(leg.phase)) this.step(leg, "elsewhere", now);
        }
      } else if (act === "canceled" && !this.engine.up) this.tellCanceled(call);
      else if (act === "canceled" && call.cancelPending) call.cancelAt = now + this.engine.settings.resendFirst;
      else if (act === "peerLost" && answer && !call.previous) this.tell(act, call, { reason: failure(answer.reason) });
    }
    return call;
  }

  say(call, now, { again, asker } = {}) {
    const { engine } = this;
    call.resendAt = undefined;
    if (!this.maySay(call.key)) return;
    if (saysAgain(call) && (call.phase === "sent" || !engine.watches.of(call.peer).away)) {
      call.delay = again ? Math.min(call.delay * 2, engine.settings.resendMax) : engine.settings.resendFirst;
      call.resendAt = now + call.delay;
    }
    if (!call.said && call.phase === "sent") {
      call.said = true; // nobody could answer before
      call.ackAt = now + call.ackTimeout;
    }
    const { phase, body, channel, group, time } = call;
    const cell = { state: SAYS[phase] ?? phase, epoch: engine.epoch, seq: nextSeq(call) };
    if (["ringing", "ended"].includes(cell.state)) Object.assign(cell, { body, channel, group, time });
    if (phase !== "ended") cell.talk = call.talk && saidOf(call.talk);
    if (phase === "over") cell.reason = overNumber(call.talk.reason);
    if (phase === "ended") cell.reason = ENDED.indexOf(call.reason) + 1 || 3;
    if (cell.state === "ringing") Object.assign(cell, { asker: asker || undefined, ttl: Math.max(0, Math.round((call.ringAt - now) * 1000)) });
    engine.sayCell("invite", call, cell, phase === "ended" && call.cancelPending ? "cancel" : undefined);
    if (phase === "ended") shorten(call);
  }

  /** Say the cell because of a word of the callee's; not for each of a flood of them. */
  sayFor(call, now, asker) {
    const quiet = onceMore(call.quiet, now);
    if (quiet !== undefined) {
      call.quiet = quiet;
      this.say(call, now, { asker });
    } else if (["sent", ...DECIDED].includes(call.phase) && call.resendAt === undefined && this.engine.up) call.resendAt = call.quiet;
  }

  keep(call) {
    if (call.phase === "gone") this.calls.delete(call.key);
    else this.calls.set(call.key, call);
    return call;
  }

  /** Whether nobody is there; without a link of my own I know nothing of the peer. */
  away(peer) {
    return this.engine.inbox && this.engine.watches.of(peer).away;
  }

  noteOffline(call) {
    if (call.offlineTold) return;
    call.offlineAt = undefined;
    call.offlineTold = true;
    this.tell("peerOffline", call);
  }

  /** An answer to a call I know nothing of: clear it if it is over, end it if it is not. */
  unknown(peer, callId, answer, now) {
    if (!this.mayAnswer(peer, now)) return;
    const key = keyOf(peer, callId);
    const cell = answer.state === "talking" ? { state: "accepted", seq: 0, talk: {} } : { state: "ringing", seq: 0 };
    if (this.calls.size >= MAX_KEPT) this.clear({ key, peer, callId });
    else if (!FINAL.has(answer.state) && !(this.remembered.get(key) > now)) {
      this.say(this.adopt({ peer, callId, cell }, now), now);
      this.engine.watchCall(peer);
    } else {
      const call = this.adopt({ peer, callId, cell }, now);
      Object.assign(call, { phase: "clearing", keepAt: undefined });
      this.clear(call, "clear");
    }
  }

  remember(key, now) {
    this.remembered.set(key, now + this.engine.settings.dedupWindow);
    for (const [old, until] of this.remembered) {
      if (until > now) break;
      this.remembered.delete(old);
    }
  }

  tellCanceled(call) {
    call.cancelAt = undefined;
    if (!call.cancelPending) return;
    call.cancelPending = false;
    this.tell("canceled", call);
  }
}

/** Whether the callee has yet to show that it knows what the cell says. */
const saysAgain = (call) => (call.phase === "talking" ? call.talk.waiting.length > 0 : ["sent", ...DECIDED].includes(call.phase));

/** What is said again of an end: whoever missed the call may see a short content. */
function shorten(call) {
  if (call.body?.length > ENDED_CONTENT) call.body = undefined;
  return call;
}

class CalleeSide extends Side {
  accept(command, now) {
    this.step(this.ringing(command, "accept"), "accept", now, { response: command.body });
  }

  refuse(command, now) {
    this.step(this.ringing(command, "refuse"), "refuse", now, { response: command.body, refusal: command.reason ?? 1 });
  }

  ringing({ peer, callId }, verb) {
    const call = this.calls.get(keyOf(peer, callId));
    if (call?.phase === "ringing") return call;
    if (call?.phase === "accepting") throw new CallError("ALREADY_ACCEPT", `cannot ${verb} it: it was accepted, and the caller is about to decide`);
    throw new CallError("ALREADY_END", `nothing to ${verb}: the call has ended`);
  }

  logOut(now) {
    this.endTalks("logged out", now);
    for (const call of [...this.calls.values()]) this.step(call, "logout", now);
  }

  abort() {
    for (const call of this.calls.values()) {
      if (OPEN.includes(call.phase)) this.tell("failure", call, { reason: "logged out" });
      else this.giveUpTalk(call);
    }
    this.calls.clear();
    this.remembered.clear();
  }

  invited(peer, callId, invite, now, retained) {
    const { engine } = this;
    const key = keyOf(peer, callId);
    if (this.isAside(key) && !this.calls.has(key)) return; // over here, and cannot be answered
    if (invite?.talk && !engine.talk && invite.state !== "over") invite = { ...invite, talk: undefined };
    const talked = invite?.talk && invite.state !== "ringing";
    let on = invite === undefined ? "cleared" : talked ? { accepted: "talks", over: "talkOver" }[invite.state] : invite.state !== "ringing" ? invite.state : retained || !invite.ttl ? "retained" : "ringing";
    let call = this.calls.get(key) ?? this.remembered.get(key);
    if (!call) {
      if (!invite) return;
      const { epoch, body, channel, group, time } = invite;
      call = { key, peer, callId, phase: "new", epoch, body, channel: channel || undefined, group, time, answer: "received", seq: 0, quiet: 0, talk: invite.talk && OFFERED };
    }
    if (on === "ringing" && !this.isLive(call, invite)) {
      on = "retained"; // a bridge hands on what its far side had retained, without the flag
      if (call.phase === "new") {
        call.liveAt = now + invite.ttl / 1000 + engine.settings.ringSlack;
        call.vouchAt = Math.min(call.liveAt, now + engine.settings.resendFirst);
      }
    }
    if (["ringing", "retained"].includes(on) && ["new", "probing"].includes(call.phase)) {
      const [turned, reason] = this.turnAway(call, on, invite) ?? [];
      if (turned) {
        if (call.phase === "probing" || this.mayAnswer(peer, now)) this.step(call, turned, now, { invite, refusal: reason });
        return;
      }
    } else if (["new", "remembered"].includes(call.phase) && !this.mayAnswer(peer, now)) return;
    if (["accepting", "talking"].includes(call.phase) && (call.talk || talked)) this.talked(call, on, invite, now);
    else this.step(call, on, now, { invite, copy: true });
  }

  /** Take in the caller's cell of a call that goes on, or may do so now. */
  talked(call, on, invite, now) {
    const said = ["talks", "talkOver"].includes(on) ? invite.talk : undefined;
    if (call.phase === "accepting") {
      if (!said || !call.talk) {
        if (said || on === "accepted") {
          call.talk = undefined; // one of the two cannot
          on = "accepted";
        }
        this.step(call, on, now, { invite, copy: true });
        return;
      }
      this.begin(call, invite.epoch, now, true);
      // Handed over once the app knows that the call goes on; acknowledged with this word.
      const [talk, messages] = readTalk(call.talk, said);
      call.talk = talk;
      this.step(call, "talks", now, { invite });
      call = this.calls.get(call.key);
      for (const message of messages) this.tell("callMessage", call, {}, message);
      if (on === "talks") return;
    }
    if (["talks", "ringing", "retained"].includes(on)) {
      if (said && same(invite.epoch, call.talk.epoch)) this.hear(call, said, now);
      return;
    }
    if (on === "talkOver") this.hear(call, said, now, true);
    call.talk = over(call.talk, on === "talkOver" ? overReason(invite.reason) : invite ? "restarted" : "peer lost");
    this.step(call, on, now, { invite });
  }

  found(peer, callId, cell, now) {
    const { engine } = this;
    const key = keyOf(peer, callId);
    if (this.calls.has(key) || this.remembered.has(key) || this.calls.size >= MAX_KEPT) return;
    const call = { key, peer, callId, seq: cell.seq, quiet: 0, phase: "over", answer: cell.state, answerReason: cell.reason, response: cell.body };
    if (cell.state === "received") Object.assign(call, { phase: "probing", answerReason: undefined, response: undefined });
    else if (cell.state === "accepted") Object.assign(call, { answer: "failed", answerReason: 4, response: undefined });
    else if (["talking", "over"].includes(cell.state)) {
      const reason = cell.state === "over" ? overReason(cell.reason) : "restarted";
      Object.assign(call, { answer: "over", answerReason: undefined, talk: { ...OFFERED, heard: true, reason } });
    }
    else if (cell.reason !== undefined && !ANSWERED[cell.reason - 1]) call.answerReason = undefined;
    call.keepAt = now + engine.settings.missedCallTtl;
    call.delay = engine.settings.probeInterval;
    if (engine.inbox || call.phase === "probing") call.resendAt = now + call.delay;
    this.keep(call);
    if (call.phase === "probing") engine.watchCall(peer);
  }

  acked(_purpose, key, now) {
    const call = this.calls.get(key);
    if (call?.phase === "clearing") this.step(call, "acked", now);
  }

  callerSeen(peer, presence, now, { retained, changed, back }) {
    for (const call of [...this.calls.values()]) {
      if (call.peer !== peer || !WATCHING.includes(call.phase) || talks(call)) continue;
      const online = presence.state === "online";
      const its = same(presence.epoch, call.epoch);
      if (call.phase === "probing") {
        if (online && its && call.vouchAt > now) this.ringsAfterAll(call, now);
        else if (online && changed && !retained) this.ask(call, now);
      } else if (online && its && back && call.phase === "ringing") this.ask(call, now);
      else if (call.phase === "ringing" && online !== its) {
        call.ringAt = Math.min(call.ringAt ?? now, now + this.engine.settings.callerLostGrace);
        this.ask(call, now);
      }
    }
  }

  setAside(key, now) {
    if (!this.calls.has(key) || this.talkNotTaken(key, now)) return;
    const call = this.calls.get(key);
    const carried = call.response !== undefined && ["accepting", "over"].includes(call.phase);
    if (call.phase === "accepting" && !carried) return; // the caller's word alone counts
    if (call.phase === "over" && carried) call.response = undefined;
    else this.step(call, "notTaken", now);
    if (carried) this.engine.outbox.lift(this.kind + key);
  }

  disconnected() {
    for (const call of this.calls.values()) call.resendAt = call.vouchAt = undefined;
  }

  unfinished() {
    return [...this.calls.values()].some((call) => call.phase === "clearing" || (call.phase === "over" && !this.engine.watches.of(call.peer).away));
  }

  deadline() {
    return Math.min(super.deadline(), this.remembered.values().next().value?.keepAt ?? Infinity);
  }

  fire(now) {
    super.fire(now);
    for (const [key, call] of this.remembered) {
      if (call.keepAt > now) break;
      this.remembered.delete(key);
    }
  }

  fireOne(call, now) {
    if (this.talkDue(call, now)) return;
    const known = this.engine.watches.of(call.peer);
    const replaced = known.read && known.online && !same(known.epoch, call.epoch);
    const on = call.ringAt <= now ? (replaced ? "replaced" : "ringExpired") : call.acceptAt <= now ? "acceptTimeout" : call.keepAt <= now ? "keepExpired" : "resend";
    this.step(call, on, now);
  }

  /** Whether an invite without the RETAIN flag is its caller's word of now (Callee 1). */
  isLive(call, invite) {
    const known = this.engine.watches.of(call.peer);
    const its = known.read && same(known.epoch, invite.epoch);
    if (call.phase !== "new" && same(invite.asker, this.engine.epoch)) return !(known.read && known.online === !its);
    return call.phase !== "probing" && its && known.online === true;
  }

  ringsAfterAll(call, now) {
    if (this.overloaded(call.peer, LIVE)) return this.step(call, "overload", now, { refusal: 2 });
    const reason = this.screen(call);
    if (reason) return this.step(call, "turnAway", now, { refusal: reason });
    return this.step({ ...call, ringAt: call.liveAt }, "alive", now);
  }

  /** What the app's policy says of it: undefined to ring, or the number of a refusal. */
  screen(call) {
    const open = [...this.calls.values()].filter((other) => LIVE.includes(other.phase)).length + [...this.engine.caller.calls.values()].filter(talks).length;
    return this.engine.screen?.({ ...call }, open);
  }

  turnAway(call, on, invite) {
    // What is in doubt is asked about first; it takes no place of a live call.
    if (on !== "ringing") return call.phase === "new" && this.overloaded(call.peer, ["probing"]) ? ["overload", 2] : undefined;
    if (this.overloaded(call.peer, LIVE)) return ["overload", 2];
    const reason = this.screen({ ...call, body: invite.body, channel: invite.channel });
    return reason ? ["turnAway", reason] : undefined;
  }

  overloaded(peer, phases) {
    const underway = [...this.calls.values()].filter((other) => phases.includes(other.phase));
    const { maxCalls, maxCallsPerCaller } = this.engine.settings;
    return underway.length >= maxCalls || underway.filter((other) => other.peer === peer).length >= maxCallsPerCaller;
  }

  ask(call, now) {
    const quiet = onceMore(call.quiet, now);
    if (quiet !== undefined) {
      this.say(call, now, { ask: true });
      call.quiet = quiet;
    } else if (call.resendAt === undefined && this.engine.up) call.resendAt = call.quiet;
  }

  step(was, on, now, { invite, refusal: refused, response, copy } = {}) {
    const { engine } = this;
    const { settings } = engine;
    const before = was.phase;
    const call = { ...was };
    let todo = this.advance(call, on, invite, refused, response);
    if (call.phase === "clearing" && this.isAside(call.key)) call.phase = "gone";
    if (call.phase !== before) {
      if (call.phase === "accepting") call.acceptAt = now + settings.acceptTimeout;
      else if (["over", "probing"].includes(call.phase)) call.keepAt = now + settings.missedCallTtl;
      else if (call.phase === "remembered") call.keepAt = now + settings.dedupWindow;
    }
    if (todo.includes("extend")) call.ringAt = now + invite.ttl / 1000 + settings.ringSlack;
    if (copy && (!["new", "probing"].includes(before) || call.phase === before)) {
      const quiet = onceMore(call.quiet, now);
      if (quiet !== undefined) call.quiet = quiet;
      else if (call.phase === before) todo = todo.filter((act) => !["say", "ask", "clear"].includes(act));
      else if (call.phase === "over" && ["clearing", "remembered"].includes(before)) {
        // Whoever said it may be gone, and not say it again: it is answered a little later.
        todo = [];
        Object.assign(call, { resendAt: call.quiet, delay: settings.resendFirst });
      }
    }
    for (const act of todo) {
      if (act === "say" || act === "ask") this.say(call, now, { ask: act === "ask", again: on === "resend" });
      // It speaks though it was read gone: perhaps in a will that came late, or an older login's word.
      if (act === "ask" && invite && same(invite.asker, engine.epoch)) engine.readAgain(call.peer);
      else if (act === "clear") this.clear(call, call.phase === "clearing" ? "clear" : undefined);
    }
    // Whom the app answered is told until it is seen; the others say it again by themselves.
    if (call.phase === "over" && !["over", "accepting", "talking"].includes(before) && on !== "refuse" && this.calls.size >= MAX_KEPT) {
      Object.assign(call, { phase: "remembered", resendAt: undefined, keepAt: now + settings.dedupWindow });
    }
    this.keep(call);
    const watched = WATCHING.includes(before);
    if (watched !== WATCHING.includes(call.phase)) {
      if (watched) engine.leaveCall(call.peer, now);
      else engine.watchCall(call.peer);
    }
    for (const act of todo) {
      if (act === "talkStarted" || act === "talkEnded") this.tell(act.replace("talk", "call"), call);
      else if (act === "end") this.tell(["canceled", "answered elsewhere"].includes(call.reason) ? "canceled" : "failure", call);
      else if (act === "missed" ? call.reason !== "answered elsewhere" : TOLD.has(act) || act === "canceled") this.tell(act, call);
    }
  }

  /** Move the record on; what to do. */
  advance(call, on, invite, refused = 1, response = undefined) {
    const before = call.phase;
    const [moves, end] = CALLEE[before][on].split(" | ");
    const [phase, ...todo] = moves.split(" ");
    if (invite && before !== "talking") {
      call.epoch = invite.epoch;
      if (before === "probing") call.talk = invite.talk && OFFERED;
      if (before === "probing") for (const name of ["body", "channel", "group", "time"]) call[name] = invite[name] ?? call[name];
    }
    if (phase === before) return todo;
    call.phase = phase;
    call.resendAt = call.keepAt = undefined;
    if (phase === "ringing") return todo;
    call.ringAt = undefined;
    if (phase === "accepting") Object.assign(call, { answer: "accepted", response });
    else call.acceptAt = undefined;
    if (end) {
      const [answer, ...words] = end.split(" ");
      const reason = words.join(" ") || (answer === "refused" ? ANSWERED[refused - 1] : ENDED[invite.reason - 1] ?? "expired");
      const number = ["refused", "failed"].includes(answer) ? ANSWERED.indexOf(reason) + 1 || 4 : undefined;
      Object.assign(call, { answer, reason, answerReason: number });
      // What accept said stays in what it leads to.
      if (before !== "accepting" || ["ended", "cleared", "notTaken"].includes(on)) call.response = response;
    }
    return todo;
  }

  say(call, now, { ask, again } = {}) {
    const { settings, epoch } = this.engine;
    call.resendAt = undefined;
    if (!this.maySay(call.key)) return;
    if (["probing", "accepting", "over"].includes(call.phase) || (call.phase === "talking" && call.talk.waiting.length)) {
      call.delay = again ? Math.min(call.delay * 2, settings.resendMax) : ["over", "talking"].includes(call.phase) ? settings.resendFirst : settings.probeInterval;
      call.resendAt = now + call.delay;
    }
    const cell = { state: call.answer, epoch, seq: nextSeq(call), body: call.response, reason: call.answerReason, ask };
    if (call.talk && ["accepted", "talking", "over"].includes(call.answer)) cell.talk = saidOf({ ...call.talk, heard: true });
    if (call.talk && call.answer === "over") cell.reason = overNumber(call.talk.reason);
    this.engine.sayCell("answer", call, cell);
  }

  keep(call) {
    if (call.phase === "remembered") this.remembered.set(call.key, call);
    else this.remembered.delete(call.key);
    if (["remembered", "gone"].includes(call.phase)) this.calls.delete(call.key);
    else this.calls.set(call.key, call);
  }
}

/** What the broker has yet to acknowledge, and which cell it will not take (What the broker does not take). */
class Outbox {
  unacked = new Memory(MAX_REMEMBERED);
  suspects = new Map();
  held = new Set();
  aside = new Memory(MAX_REMEMBERED);
  lifted = new Memory(MAX_REMEMBERED);
  maySay(cell) {
    if (this.aside.has(cell)) return false;
    if (this.trial === undefined) return !this.suspects.has(cell);
    if (cell === this.trial && !this.unacked.size) return true;
    this.held.add(cell);
    return false;
  }
  acked(token, now) {
    const cell = this.unacked.get(token);
    if (!this.unacked.delete(token) || !this.suspects.size) return;
    this.until = now + PUBACK_TIMEOUT;
    if (cell === this.trial) {
      this.suspects.delete(cell);
      this.trial = undefined;
    }
  }
  /** What is to be said now: what was held, then the next suspect. */
  next(now) {
    if (this.trial !== undefined) return undefined;
    for (const cell of this.held) {
      this.held.delete(cell);
      if (!this.suspects.has(cell)) return cell;
    }
    if (!this.suspects.size) this.until = undefined;
    else if (!this.unacked.size) {
      // Brokers take in order: the last that was first not acknowledged is the likely culprit.
      for (const [cell, strikes] of [...this.suspects].reverse()) if (this.trial === undefined || strikes > this.suspects.get(this.trial)) this.trial = cell;
      this.until = now + PUBACK_TIMEOUT;
    }
    return this.trial;
  }
  nothingToSay(cell) {
    if (cell !== this.trial || this.unacked.size) return;
    this.trial = undefined;
    this.suspects.delete(cell);
  }
  giveUp() {
    for (const cell of this.suspects.keys()) this.held.add(cell);
    this.suspects.clear();
    this.trial = this.until = undefined;
  }
  /** The connection broke: which cells are set aside by that. */
  lost() {
    const left = new Set([...this.unacked.values()]);
    const aside = [];
    if (this.trial !== undefined && left.size === 1 && left.has(this.trial)) {
      const strikes = this.suspects.get(this.trial) + 1;
      this.suspects.set(this.trial, strikes);
      if (strikes >= STRIKES) {
        this.suspects.delete(this.trial);
        this.aside.set(this.trial, true);
        aside.push(this.trial);
      }
    } else {
      left.delete("presence");
      this.suspects = new Map([...this.suspects.keys(), ...left].map((cell) => [cell, 0]));
    }
    this.unacked.clear();
    this.held.clear();
    this.trial = this.until = undefined;
    return aside;
  }
  /** Say it again after all, once: there is a sign that the broker took it. */
  lift(cell) {
    if (!this.aside.has(cell) || this.lifted.has(cell)) return false;
    this.aside.delete(cell);
    this.lifted.set(cell, true);
    return true;
  }
}

const NOTHING_KNOWN = { away: false };

/** Whose presence is subscribed: peers in a call with this one, and those the app watches. */
class Watches {
  known = new Map();
  byApp = new Set();
  calls = new Map();
  idle = new Map();
  most = 32;
  of(peer) {
    const known = this.known.get(peer);
    return known ? { ...known, away: Boolean(known.current && !known.online) } : NOTHING_KNOWN;
  }
  /** Whether that login was read online, on this connection. */
  there(peer, epoch) {
    const { read, online, epoch: its } = this.of(peer);
    return Boolean(read && online && same(its, epoch));
  }
  add(peer) {
    this.idle.delete(peer);
    if (this.known.has(peer)) return false;
    this.known.set(peer, {});
    return true;
  }
  enter(peer) {
    this.calls.set(peer, (this.calls.get(peer) ?? 0) + 1);
    return this.add(peer);
  }
  leave(peer, at) {
    const left = (this.calls.get(peer) ?? 0) - 1;
    if (left > 0) this.calls.set(peer, left);
    else {
      this.calls.delete(peer);
      this.rest(peer, at);
    }
  }
  rest(peer, at) {
    if (!this.byApp.has(peer) && !this.calls.has(peer) && this.known.has(peer)) this.idle.set(peer, at);
  }
  forget(peer) {
    this.idle.delete(peer);
    this.known.delete(peer);
    return peer;
  }
  expire(now) {
    const over = this.idle.size - this.most;
    return [...this.idle].filter(([, at], i) => at <= now || i < over).map(([peer]) => this.forget(peer));
  }
  /** The broker refused a presence: who lingers longest gives its place. */
  makeRoom(peer) {
    let gone;
    if (this.idle.has(peer)) this.forget(peer);
    else if (this.idle.size && this.known.has(peer)) gone = this.forget(this.idle.keys().next().value);
    else return undefined;
    this.most = this.idle.size;
    return gone;
  }
  deadline() {
    return this.idle.size > this.most ? 0 : Math.min(Infinity, ...this.idle.values());
  }
  disconnected() {
    for (const known of this.known.values()) known.current = known.read = false;
  }
}

/**
 * All calls of one login. Feed it with `handle(input, now)`, do what `effects()` says, come back at
 * `deadline()`; nothing from the wire throws, an illegal command throws CallError.
 */
export class Engine {
  up = false;
  inbox = false;
  closed = false;
  out = [];
  drops = {};
  generation = 0;
  awaited = new Map();
  outbox = new Outbox();
  watches = new Watches();
  constructor(me, epoch, { realm = "sig", settings = {}, screen, talk = false } = {}) {
    escapePeer(me);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(realm)) throw new InvalidArgument("realm", "1 to 64 of A-Z a-z 0-9 _ -");
    for (const [name, value] of Object.entries(settings)) {
      if (!(name in SETTINGS)) throw new InvalidArgument(name, "no such setting");
      if (!(typeof value === "number" && value > 0 && value < Infinity)) throw new InvalidArgument(name, "must be above 0 and finite");
    }
    this.settings = { ...SETTINGS, ...settings };
    if (this.settings.ringTimeout > MAX_TTL / 1000) throw new InvalidArgument("ringTimeout", "at most a day");
    Object.assign(this, { me, epoch, realm, screen, talk, own: presenceTopic(realm, me), token: 0, first: true, aside: [] });
    this.caller = new CallerSide(this, "invite");
    this.callee = new CalleeSide(this, "answer");
    const level = escapePeer(me);
    this.outboxFilters = [`${realm}/v1/+/invite/${level}/+`, `${realm}/v1/+/answer/${level}/+`];
    this.inboxFilters = [`${realm}/v1/${level}/invite/+/+`, `${realm}/v1/${level}/answer/+/+`];
  }

  will() {
    return { topic: this.own, payload: encodeCell("presence", { state: "offline", epoch: this.epoch }) };
  }

  deadline() {
    if (this.closed) return Infinity;
    const times = [this.settleAt, this.goodbyeAt, this.outbox.until].map((at) => at ?? Infinity);
    return Math.min(this.caller.deadline(), this.callee.deadline(), this.watches.deadline(), ...times);
  }

  effects() {
    const { out } = this;
    this.out = [];
    return out;
  }

  /** Take one thing in, `{connected: {}}`, `{message: {topic, payload, retained}}`, `{send: {…}}` …, after all that was due. */
  handle(input, now) {
    if (this.closed) return;
    if (now >= this.deadline()) this.fire(now);
    const [[kind, detail]] = Object.entries(input);
    this[`on_${kind}`](detail, now);
    if (this.goodbyeAt !== undefined && !(now < this.goodbyeAt && (this.caller.unfinished() || this.callee.unfinished()))) {
      this.goodbyeAt = undefined;
      this.sayPresence(now, "offline", { purpose: "goodbye" });
    }
  }

  // --- the link

  on_connected({ time } = {}, now) {
    this.linked = true;
    this.born ??= now;
    this.time = time;
    this.outbox.until = this.outbox.suspects.size ? now + PUBACK_TIMEOUT : undefined;
    for (const cell of this.aside.splice(0)) {
      const side = cell.startsWith("invite") ? this.caller : this.callee;
      side.setAside(cell.slice(side.kind.length), now);
      this.count("set aside");
    }
    this.settleAt = now + this.settings.startupTimeout;
    if (this.settled) this.subscribeInbox(this.own); // what stands there is read before I speak
    else {
      this.out.push({ subscribe: [this.own, ...this.outboxFilters] });
      this.up = true;
      this.sayOnline(now);
    }
  }

  /** Back on a later connection, with my presence as it stands read: speak, or ask first. */
  comeBack(now) {
    if (this.doubts) {
      this.doubts = false;
      this.asking = true;
      this.settleAt = now + this.settings.startupTimeout;
      this.sayPresence(now, "offline", { ask: true });
      return;
    }
    this.asking = false;
    this.settleAt = undefined;
    this.up = true;
    this.sayOnline(now);
    this.resync(now);
  }

  settle(now) {
    this.settled = true;
    this.settleAt = undefined;
    this.out.push({ unsubscribe: this.outboxFilters });
    this.subscribeInbox();
    this.resync(now);
  }

  subscribeInbox(...first) {
    this.inbox = true;
    this.out.push({ subscribe: [...first, ...this.inboxFilters, ...[...this.watches.known.keys()].map((peer) => presenceTopic(this.realm, peer))] });
  }

  resync(now) {
    this.caller.resync(now);
    this.callee.resync(now);
    this.sayNext(now);
  }

  sayNext(now) {
    for (let cell; this.up && (cell = this.outbox.next(now)) !== undefined; ) {
      const side = cell.startsWith("invite") ? this.caller : this.callee;
      side.sayKey(cell.slice(side.kind.length), now);
      this.outbox.nothingToSay(cell);
    }
  }

  on_subscribed({ filters = [], refused = [] }, now) {
    for (const filter of refused) {
      if ([this.own, ...this.inboxFilters, ...this.outboxFilters].includes(filter)) {
        this.out.push({ note: "denied", filter });
        return;
      }
      this.count("presence refused");
      const wanted = this.watches.makeRoom(parseTopic(this.realm, filter)?.presence);
      if (wanted !== undefined) this.out.push({ unsubscribe: [presenceTopic(this.realm, wanted)] }, { subscribe: [filter] });
    }
    for (const filter of filters) {
      const peer = parseTopic(this.realm, filter)?.presence;
      if (peer === undefined) continue;
      const known = this.watches.known.get(peer);
      if (known) known.current = true;
      this.caller.watched(peer, now);
      // If it does not tell of it, nobody may be there.
      if (!this.watches.of(peer).read) for (const side of [this.caller, this.callee]) side.peerSeen(peer, undefined, now);
      if (peer === this.me && !this.up && !this.asking) {
        // It may grant before it says what is retained, but not a second time.
        if (this.heard || this.readOn) this.comeBack(now);
        else {
          this.readOn = true;
          this.out.push({ subscribe: [this.own] });
        }
      }
    }
    if (filters.includes(this.inboxFilters[0])) this.out.push({ note: "ready" });
  }

  on_disconnected(_, now) {
    if (this.linked) {
      this.first = false;
      this.aside.push(...this.outbox.lost());
    }
    this.linked = this.up = this.inbox = this.heard = this.readOn = this.asking = this.doubts = false;
    this.settleAt = undefined;
    this.settled = this.echoed; // it went on without the echo: what is there is yet to be found
    this.watches.disconnected();
    this.awaited.clear();
    this.caller.disconnected();
    this.callee.disconnected();
    if (this.leaving) this.finish();
    this.caller.cut(now);
    this.callee.cut(now);
  }

  // --- messages

  on_message({ topic, payload, retained }, now) {
    try {
      const at = parseTopic(this.realm, topic);
      const read = (kind) => (payload.length ? decodeCell(kind, payload) : undefined);
      if (at?.presence !== undefined) {
        const presence = read("presence");
        if (at.presence === this.me) this.ownPresence(presence, retained, now);
        else this.peerPresence(at.presence, presence, retained, now);
      } else if (at && at.owner === this.me && at.writer !== this.me) {
        const cell = read(at.kind);
        if (at.kind === "answer") {
          if (cell?.ask && this.caller.asksAgain(at.writer, at.callId, now) && !this.leaving) this.sayOnline(now);
          if (cell) this.caller.answered(at.writer, at.callId, cell, now);
          else this.caller.answerCleared(at.writer, at.callId, now);
        } else if (!this.leaving || this.callee.calls.has(keyOf(at.writer, at.callId))) this.callee.invited(at.writer, at.callId, cell, now, retained);
      } else if (at && at.writer === this.me && at.owner !== this.me) {
        // Once settled only what was found comes late; whatever is not from the store is an echo.
        if (!payload.length || (this.settled && !retained)) return;
        const cell = read(at.kind);
        if (!same(cell.epoch, this.epoch)) (at.kind === "invite" ? this.caller : this.callee).found(at.owner, at.callId, cell, now);
      } else this.count("unknown topic");
    } catch (error) {
      this.count(error instanceof DecodeError ? error.cause : "defect", error);
    }
  }

  count(cause, error) {
    this.drops[cause] = (this.drops[cause] ?? 0) + 1;
    if (error) this.out.push({ drop: cause, error });
  }

  /** My own presence as it was read: of several logins the one of the highest rank goes on. */
  ownPresence(presence, retained, now) {
    const verdict = this.judge(presence, retained, now);
    if (verdict === "abort") {
      this.caller.abort();
      this.callee.abort();
      this.closed = true;
      this.goodbyeAt = undefined; // presence is the newer login's now
      this.out.push({ note: "aborted" });
    } else if (verdict === "echo") {
      this.echoed = true;
      if (this.up && this.said < this.generation && !this.leaving) this.sayOnline(now);
      if (!this.settled && this.settleAt !== undefined) this.settle(now);
    } else if (this.asking) {
      if (verdict === "say") this.comeBack(now);
    } else if (!this.up) {
      this.heard = true;
      this.doubts = verdict === "doubt";
      if (this.readOn) this.comeBack(now);
    } else if (verdict && !this.leaving) this.sayOnline(now);
  }

  judge(presence, retained, now) {
    if (!presence) return "say";
    const online = presence.state === "online";
    const { generation = 0, epoch, age = 0, ask } = presence;
    if (same(epoch, this.epoch)) return online ? !retained && "echo" : !ask && "say";
    const rise = () => {
      this.generation = Math.max(this.generation, Math.min(generation + 1, Number.MAX_SAFE_INTEGER));
    };
    if (!this.echoed || (this.first && retained)) {
      rise();
      return !(retained && !this.echoed) && "say";
    }
    if (!online && (retained || !ask)) return "say"; // a will, which says nothing of who lives
    const higher = generation - this.generation || compare(epoch, this.epoch);
    if (age > this.age(now)) {
      if (higher > 0) rise();
      return "say";
    }
    return higher > 0 ? "abort" : "doubt";
  }

  peerPresence(peer, presence, retained, now) {
    const before = this.watches.known.get(peer);
    if (!before) throw new DecodeError("not watched", `presence of ${peer}`);
    const online = presence && presence.state === "online";
    this.watches.known.set(peer, { online, epoch: presence?.epoch, current: true, read: true });
    const changed = before.online !== online || !(before.epoch === presence?.epoch || same(before.epoch, presence?.epoch));
    if (changed && this.watches.byApp.has(peer)) this.out.push({ tell: "presence", peer, online });
    if (!online) this.caller.gone(peer);
    // A retained reading where nothing was known answers my subscription: no coming back.
    else if (changed && !(retained && before.online === undefined)) this.caller.back(peer, now);
    if (presence) this.callee.callerSeen(peer, presence, now, { retained, changed, back: changed && before.online !== undefined });
    for (const side of [this.caller, this.callee]) side.peerSeen(peer, presence, now);
  }

  on_acked({ token }, now) {
    this.outbox.acked(token, now);
    if (this.outbox.suspects.size || this.outbox.held.size) this.sayNext(now);
    const awaited = this.awaited.get(token);
    this.awaited.delete(token);
    if (awaited?.side) awaited.side.acked(awaited.purpose, awaited.key, now);
    if (this.leaving && this.goodbyeAt === undefined && !this.awaited.size) this.finish();
  }

  // --- commands

  on_send(command, now) {
    if (command.peer === this.me) throw new InvalidArgument("peer", "a peer cannot call itself");
    this.caller.send(command, now);
  }
  on_cancel(command, now) {
    this.caller.cancel(command, now);
  }
  on_accept(command, now) {
    this.callee.accept(command, now);
  }
  on_refuse(command, now) {
    this.callee.refuse(command, now);
  }
  on_say(command, now) {
    (command.made ? this.caller : this.callee).message(command, now);
  }
  on_hangUp(command, now) {
    (command.made ? this.caller : this.callee).hangUp(command, now);
  }
  on_time() {}
  on_watch({ peer }) {
    if (peer === this.me) throw new InvalidArgument("peer", "a peer is not told of its own presence");
    this.watches.byApp.add(peer);
    if (this.watches.add(peer)) {
      if (this.inbox) this.out.push({ subscribe: [presenceTopic(this.realm, peer)] });
    } else if (this.watches.of(peer).current) this.out.push({ tell: "presence", peer, online: this.watches.of(peer).online });
  }
  on_unwatch({ peer }, now) {
    this.watches.byApp.delete(peer);
    this.watches.rest(peer, now + this.settings.presenceLinger);
  }
  on_logout(_, now) {
    if (this.linked && !this.up) {
      this.doubts = false;
      this.comeBack(now);
    }
    this.caller.logOut(now);
    this.callee.logOut(now);
    this.leaving = true;
    if (this.up) this.goodbyeAt = now + this.settings.logoutGrace;
    else this.finish();
  }

  finish() {
    this.goodbyeAt = undefined;
    this.closed = true;
    this.out.push({ note: "finished" });
  }

  // --- time and speech

  fire(now) {
    if (this.settleAt <= now) {
      this.doubts &&= !this.settled;
      if (this.settled) this.comeBack(now);
      else this.settle(now);
    }
    if (this.outbox.until <= now) {
      this.outbox.giveUp();
      this.sayNext(now);
    }
    this.caller.fire(now);
    this.callee.fire(now);
    if (this.watches.deadline() <= now) {
      const gone = this.watches.expire(now);
      if (this.inbox) this.out.push({ unsubscribe: gone.map((peer) => presenceTopic(this.realm, peer)) });
    }
  }

  age(now) {
    return this.born === undefined ? 0 : Math.max(0, Math.trunc((now - this.born) * 1000));
  }

  sayOnline(now) {
    this.said = this.generation;
    this.sayPresence(now, "online", { time: this.time });
  }

  sayPresence(now, state, { time, ask, purpose } = {}) {
    const age = state === "online" || ask ? this.age(now) : 0; // a goodbye claims nothing
    const cell = { state, epoch: this.epoch, time, ask, generation: this.generation, age };
    this.publish("presence", this.own, encodeCell("presence", cell), purpose && { purpose });
  }

  sayCell(kind, { key, peer, callId }, cell, purpose) {
    const side = kind === "invite" ? this.caller : this.callee;
    this.publish(kind + key, cellTopic(this.realm, kind, peer, this.me, callId), cell ? encodeCell(kind, cell) : new Uint8Array(0), purpose && { side, purpose, key });
  }

  publish(cell, topic, payload, awaited) {
    const token = ++this.token;
    this.outbox.unacked.set(token, cell);
    if (awaited) this.awaited.set(token, awaited);
    this.out.push({ publish: topic, payload, token });
  }

  watchCall(peer) {
    if (this.watches.enter(peer) && this.inbox) this.out.push({ subscribe: [presenceTopic(this.realm, peer)] });
  }

  readAgain(peer) {
    this.out.push({ subscribe: [presenceTopic(this.realm, peer)] });
  }

  leaveCall(peer, now) {
    this.watches.leave(peer, now + this.settings.presenceLinger);
  }
}

// --- link: MQTT 3.1.1, as far as the protocol needs it -------------------------------------------

/** A packet from a peer that is longer than this is read away: no cell is. */
const MAX_PACKET = 64 * 1024;
const KEEP_ALIVE = 60;
const LOGOUT_TIMEOUT = 2; // seconds that a logout waits in all
const PING_AFTER = 20;
const PONG_WITHIN = 15;
const SILENT = PING_AFTER + PONG_WITHIN;
/** By then the broker has ended a connection; timers of a hidden page may come a minute late. */
const LOST_AFTER = 1.5 * KEEP_ALIVE;

const field = (value) => {
  const bytes = typeof value === "string" ? TEXT.encode(value) : value;
  return join([[bytes.length >> 8, bytes.length & 255], bytes]);
};

function packet(first, ...parts) {
  const body = join(parts);
  const length = [];
  let left = body.length;
  do {
    length.push((left & 127) | (left > 127 ? 128 : 0));
    left >>= 7;
  } while (left);
  return join([[first], length, body]);
}

const numbered = (first, id, ...parts) => packet(first, [id >> 8, id & 255], ...parts);

/** One MQTT connection: bytes in by `feed`, packets out by `send`, what happened by `tell(input)`. */
export class Mqtt {
  buffer = new Uint8Array(0);
  skip = 0;
  last = 0;
  waiting = new Map(); // packet id → what waits for it
  constructor(send, tell) {
    Object.assign(this, { send, tell });
  }

  connect({ clientId, username, password, will }) {
    const flags = 2 | 4 | 8 | 32 | (username === undefined ? 0 : 128) | (password === undefined ? 0 : 64);
    const login = [username, password].filter((part) => part !== undefined).map(field);
    this.send(packet(0x10, field("MQTT"), [4, flags, 0, KEEP_ALIVE], field(clientId), field(will.topic), field(will.payload), ...login));
  }

  id(what) {
    do this.last = (this.last % 65535) + 1;
    while (this.waiting.has(this.last));
    this.waiting.set(this.last, what);
    return this.last;
  }

  perform({ publish, payload, token, subscribe, unsubscribe }) {
    if (publish) {
      const id = this.id({ token });
      this.send(packet(0x33, field(publish), [id >> 8, id & 255], payload));
    }
    if (subscribe) this.send(numbered(0x82, this.id({ subscribe }), ...subscribe.flatMap((filter) => [field(filter), [1]])));
    if (unsubscribe?.length) this.send(numbered(0xa2, this.id({}), ...unsubscribe.map(field)));
  }

  /** Take bytes in; throws DecodeError for what is no MQTT, after which the connection is to be closed. */
  feed(data) {
    if (this.skip) {
      const skipped = Math.min(this.skip, data.length);
      this.skip -= skipped;
      data = data.subarray(skipped);
    }
    let buffer = this.buffer.length ? join([this.buffer, data]) : data;
    for (;;) {
      let length = 0;
      let at = 1;
      for (let shift = 0; ; shift += 7, at++) {
        if (at > 4) throw malformed("a packet longer than MQTT has");
        if (at >= buffer.length) {
          this.buffer = buffer.slice();
          return;
        }
        length |= (buffer[at] & 127) << shift;
        if (buffer[at] < 128) break;
      }
      const start = at + 1;
      const end = start + length;
      if (length > MAX_PACKET && buffer[0] >> 4 === 3 && buffer.length >= start + 2) {
        const id = start + 2 + ((buffer[start] << 8) | buffer[start + 1]);
        if (buffer.length >= id + 2) {
          if (buffer[0] & 6) this.send([0x40, 2, buffer[id], buffer[id + 1]]);
          this.skip = Math.max(0, end - buffer.length);
          buffer = buffer.subarray(Math.min(end, buffer.length));
          this.buffer = buffer.slice();
          if (this.skip) return;
          continue;
        }
      }
      if (buffer.length < end) {
        if (buffer.length > 2 * MAX_PACKET + 70_000) throw malformed("a packet of no use");
        this.buffer = buffer.slice();
        return;
      }
      this.take(buffer[0], buffer.subarray(start, end));
      buffer = buffer.subarray(end);
    }
  }

  take(first, body) {
    const type = first >> 4;
    if (type === 3) {
      const size = (body[0] << 8) | body[1];
      const qos = (first >> 1) & 3;
      if (body.length < 2 + size + (qos ? 2 : 0)) throw malformed("a publish that ends within its topic");
      const rest = body.subarray(2 + size);
      let topic = "";
      try {
        topic = UTF8.decode(body.subarray(2, 2 + size));
      } catch {
        // No topic of the protocol: dropped and counted as such.
      }
      this.tell({ message: { topic, payload: rest.slice(qos ? 2 : 0), retained: (first & 1) === 1 } });
      if (qos) this.send([0x40, 2, rest[0], rest[1]]);
      return;
    }
    if (type === 2) return this.tell(body[1] === 0 ? { connected: {} } : { refused: { code: body[1] } });
    const id = (body[0] << 8) | body[1];
    const waited = this.waiting.get(id);
    if (waited === undefined || ![4, 9, 11].includes(type)) return;
    this.waiting.delete(id);
    if (type === 4 && waited.token) this.tell({ acked: { token: waited.token } });
    if (type === 9 && waited.subscribe) {
      const granted = (filter, i) => body[2 + i] < 128;
      const filters = waited.subscribe.filter(granted);
      this.tell({ subscribed: { filters, refused: waited.subscribe.filter((filter, i) => !granted(filter, i)) } });
    }
  }
}

/** The order in which `peer` tries `urls`: its own, and the same whatever order they are given in. */
export function spread(urls, peer) {
  const rank = (url) => {
    let hash = 0x811c9dc5;
    for (const byte of TEXT.encode(`${peer}\0${url}`)) hash = Math.imul(hash ^ byte, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  };
  return [...urls].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** Which of several brokers is dialed next and when: the one that serves until it fails, then the next; no way back is preferred. */
export class Rotation {
  at = 0;
  #failed = 0; // one after the other, since one served
  constructor(urls) {
    this.urls = urls;
  }
  get url() {
    return this.urls[this.at];
  }
  get #rounds() {
    return Math.min(Math.floor(this.#failed / this.urls.length), 16);
  }
  /** Seconds for each step of a connection; where there is no other broker, as long as silence may last. */
  get patience() {
    return this.urls.length === 1 ? SILENT : Math.min(2 * 2 ** Math.max(0, this.#rounds - 1), 16);
  }
  /** Go on to the next; the pause before it, in seconds. `lasted`: how long this one had served; `jitter`: 0 to 1. */
  failed(lasted, jitter) {
    if (lasted >= 1) this.#failed = 0;
    const pause = Math.min(0.1 * 2 ** this.#rounds, 5);
    this.#failed++;
    this.at = (this.at + 1) % this.urls.length;
    return pause * (0.5 + jitter / 2);
  }
}

/** Opens `url` (ws: or wss:) and says by `on.open()`, `on.data(bytes)`, `on.close(why)` what happens. */
export function webSocket(url, on) {
  const socket = new WebSocket(url, "mqtt");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => on.open();
  socket.onmessage = ({ data }) => on.data(typeof data === "string" ? new Uint8Array(0) : new Uint8Array(data));
  socket.onclose = ({ code }) => on.close(`the WebSocket was closed, ${code}`);
  return { send: (bytes) => socket.readyState === 1 && socket.send(Uint8Array.from(bytes)), close: () => socket.close() };
}

// --- client: what a page uses ---------------------------------------------------------------------

/** The login did not come about; `code` is "refused", "denied", "aborted", "timeout" or "logged out". */
export class LoginError extends Error {
  constructor(code, problem) {
    super(problem);
    this.name = "LoginError";
    this.code = code;
  }
}

function checkSeconds(name, value) {
  if (!(typeof value === "number" && value > 0 && value <= MAX_TTL / 1000)) throw new InvalidArgument(name, "seconds, above 0 and at most a day");
}

/** A list of brokers; a page's own may be relative to it. One alone that cannot be read is told by the login. */
function checkUrls(urls) {
  if (!Array.isArray(urls) || !urls.length || urls.some((one) => typeof one !== "string" || !one)) throw new InvalidArgument("url", "one text, or `urls`, a list of them");
  const read = urls.map((one, i) => {
    let url;
    try {
      url = new URL(one, globalThis.location?.href);
    } catch {
      if (urls.length === 1) return {};
      throw new InvalidArgument("urls", `number ${i + 1} of ${urls.length} is none`);
    }
    // It would be shown wherever the broker is named.
    if (url.username || url.password) throw new InvalidArgument("url", "no user or password in it: they are `username` and `password`");
    return url;
  });
  if (new Set(read.map(({ protocol, host, pathname, search }) => [protocol, host, pathname || "/", search].join())).size < urls.length) throw new InvalidArgument("urls", "one is there twice");
  if (new Set(read.map(({ protocol }) => ["wss:", "mqtts:", "https:"].includes(protocol))).size > 1) throw new InvalidArgument("urls", "all are encrypted, or none");
}

/** Messages of a call that nobody has read wait; over this, the oldest go. */
const MAX_UNREAD = 1024;

/**
 * One call, made or come in. `state`: "calling", "ringing", "accepting", then one of "accepted",
 * "refused", "canceled", "failed"; `reason` says why. If both sides can (`talk: true`) an accepted call
 * goes on: it is `up`, has `send`, `messages()` and `hangUp`, and is "over" in the end. `decided` and
 * `ended` resolve with the call itself and never reject. Events: "change" at each step, "message".
 */
export class Call extends EventTarget {
  up = false;
  #do;
  #decide;
  #end;
  #unread = [];
  #news;
  #wake;
  constructor(side, call, act) {
    super();
    this.incoming = side === "remote";
    this.peer = call.peer;
    this.callId = call.callId;
    this.channel = call.channel;
    this.content = decodeBody(call.body);
    this.state = this.incoming ? "ringing" : "calling";
    this.#do = act;
    this.decided = new Promise((resolve) => {
      this.#decide = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#stir();
  }
  /** Answer a call that rings here; `response` reaches the caller. Await `ended` for who won. */
  accept(response) {
    this.#do({ accept: { ...this.#id, body: response === undefined ? undefined : encodeBody(response, "response") } });
    if (this.state === "ringing") this.state = "accepting";
  }
  /** Refuse it: "declined", "busy" or "do not disturb". */
  refuse({ response, reason = "declined" } = {}) {
    const number = REFUSALS.indexOf(reason) + 1;
    if (number < 1) throw new InvalidArgument("reason", '"declined", "busy" or "do not disturb"');
    this.#do({ refuse: { ...this.#id, reason: number, body: response === undefined ? undefined : encodeBody(response, "response") } });
  }
  /** Give up a call made here. */
  cancel() {
    this.#do({ cancel: this.#id });
  }
  /** Say something to the other side while the call is up: it is handled there once, in order. */
  send(message) {
    this.#inTalk();
    this.#do({ say: { ...this.#id, made: !this.incoming, body: encodeMessage(message) } });
  }
  /** End a call that is up: "hung up" or "time is up". */
  hangUp(reason = "hung up") {
    if (!["hung up", "time is up"].includes(reason)) throw new InvalidArgument("reason", '"hung up" or "time is up"');
    this.#inTalk();
    this.#do({ hangUp: { ...this.#id, made: !this.incoming, reason } });
  }
  /** What the other side says, until the call has ended: `for await (const message of call.messages())`. */
  async *messages() {
    while (this.#unread.length || this.#end) {
      if (this.#unread.length) yield this.#unread.shift();
      else await this.#news;
    }
  }
  #inTalk() {
    if (!this.up) throw new CallError("ALREADY_END", `the call does not go on: ${this.state}, ${this.reason ?? "undecided"}`);
  }
  get #id() {
    return { peer: this.peer, callId: this.callId };
  }
  /** Let all go on that wait for a message. */
  #stir() {
    this.#wake?.();
    this.#news = new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
  /** @internal */
  _hear(data) {
    const message = decodeBody(data);
    this.#unread.push(message);
    if (this.#unread.length > MAX_UNREAD) this.#unread.shift();
    this.#stir();
    this.dispatchEvent(Object.assign(new Event("message"), { detail: message }));
  }
  /** @internal */
  _take(name, call) {
    const end = { accepted: "accepted", refused: "refused", canceled: "canceled", failure: "failed", callEnded: "over" }[name];
    this.received ||= name === "receivedByPeer";
    this.offline = name === "peerOffline" || (this.offline && !this.received);
    if (end || name === "peerLost") this.reason = end === "over" ? call.talk.reason : call.reason;
    if (name === "peerLost") this.peerLost = true;
    if (end) {
      this.state = end;
      this.up = end === "accepted" && talks(call);
      if (!this.incoming) this.response = decodeBody(call.response);
      this.#decide(this);
      if (!this.up) {
        this.#end(this);
        this.#end = undefined;
        this.#stir();
      }
    }
    this.dispatchEvent(new Event("change"));
    return Boolean(end) && !this.up;
  }
}

/**
 * One peer at a broker. Options: `url` (or `urls`, of several that are as good), `peer`, `password`, `username` (the peer's own by default),
 * `talk` (accepted calls go on), `realm`, `settings`, `policy(call, open)` → undefined or a reason to
 * refuse, `open` (the transport).
 * Events: "state" (`client.state`), "missed" and "presence" (in `event.detail`), "lost" (a call).
 */
export class Client extends EventTarget {
  state = "disconnected";
  #options;
  #engine;
  #link;
  #timer;
  #page = new AbortController(); // of what is listened to there
  #todo = [];
  #performing = false;
  #calls = new Map(); // by their side and key: both sides may use one call id
  #rings = new Set();
  #rotation;
  #refusals = new Set(); // that every broker refuses is final, while the login is awaited
  #problems = new Map(); // of each broker, why it did not take the login
  #login;
  #over;
  #ended = new Promise((resolve) => {
    this.#over = resolve;
  });
  constructor(options) {
    super();
    const { url, urls = [url], peer, realm, settings, policy, talk, loginTimeout, username, password } = options;
    checkUrls(urls);
    if (loginTimeout !== undefined) checkSeconds("loginTimeout", loginTimeout);
    for (const [name, value] of Object.entries({ username, password })) {
      if (value !== undefined && (typeof value !== "string" || TEXT.encode(value).length > 0xffff)) throw new InvalidArgument(name, "text of at most 65,535 bytes");
    }
    this.#rotation = new Rotation(spread(urls, peer));
    const screen = policy && ((call, open) => {
      try {
        const reason = policy({ peer: call.peer, callId: call.callId, channel: call.channel, content: decodeBody(call.body) }, open);
        const number = REFUSALS.indexOf(reason) + 1;
        // Nobody is refused by mistake: what an async function gives is a promise.
        if (!number && reason !== undefined && reason !== null) throw new InvalidArgument("policy", `it gives undefined or a reason to refuse, at once, not ${reason}`);
        return number || undefined;
      } catch (error) {
        this.#report(error);
        return undefined;
      }
    });
    this.#engine = new Engine(peer, crypto.getRandomValues(new Uint8Array(8)), { realm, settings, screen, talk });
    const level = escapePeer(peer);
    // What is drawn is told to nobody but the broker: who knows a client id can end its connection.
    const drawn = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[byte & 31]).join("");
    this.#options = { open: webSocket, loginTimeout: 20, clientId: `${level}:${drawn}`, username: level, ...options };
  }

  /** The broker that is dialed, or serves. */
  get url() {
    return this.#rotation.url;
  }

  /** Resolves once this peer can be called; rejects with LoginError. Reconnects by itself from then on. */
  login() {
    if (this.#login) return this.#login.done;
    if (this.#engine.closed) return Promise.reject(new LoginError("logged out", "this login is over; make a new Client"));
    this.#login = {};
    this.#login.done = new Promise((resolve, reject) => Object.assign(this.#login, { resolve, reject }));
    this.#login.timer = setTimeout(() => this.#stop("timeout", `no login within ${this.#options.loginTimeout} s: ${this.#why() ?? "the broker is silent"}`), this.#options.loginTimeout * 1000);
    // After sleep a clock may have stood, too: whether the connection lives is asked at once.
    for (const name of ["online", "pageshow", "visibilitychange"]) globalThis.addEventListener?.(name, () => this.#wake(), { signal: this.#page.signal });
    this.#open();
    return this.#login.done;
  }

  /** Make a call; the Call, at once. */
  invite(peer, { content, channel, group, ringTimeout, ackTimeout } = {}) {
    escapePeer(peer);
    if (channel !== undefined && (typeof channel !== "string" || TEXT.encode(channel).length > MAX_CHANNEL)) throw new InvalidArgument("channel", `text of at most ${MAX_CHANNEL} bytes`);
    if (group !== undefined && !(group instanceof Uint8Array && group.length === 16)) throw new InvalidArgument("group", "16 bytes");
    for (const [name, value] of Object.entries({ ringTimeout, ackTimeout })) {
      if (value !== undefined) checkSeconds(name, value);
    }
    const body = content === undefined ? undefined : encodeBody(content);
    const made = { peer, callId: newCallId(), body, channel, group, ringTimeout, ackTimeout, time: Math.floor(Date.now() / 1000) };
    if (ackTimeout === undefined && ringTimeout !== undefined) made.ackTimeout = Math.min(this.#engine.settings.ackTimeout, 0.9 * ringTimeout);
    if (this.#engine.closed || !this.#login) throw new CallError("NOT_LOGGEDIN", "log in first");
    const call = new Call("local", made, (input) => this.#command(input));
    const key = `local${keyOf(peer, made.callId)}`;
    this.#calls.set(key, call);
    try {
      this.#command({ send: made });
    } catch (error) {
      this.#calls.delete(key);
      throw error;
    }
    return call;
  }

  /** Make a call and wait for what becomes of it; the Call then. `signal` cancels it, `onChange(call)` hears each step. */
  async call(peer, { signal, onChange, ...options } = {}) {
    const call = this.invite(peer, options);
    if (onChange) call.addEventListener("change", () => onChange(call));
    const cancel = () => {
      try {
        call.cancel();
      } catch {
        // It has ended meanwhile.
      }
    };
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    await call.decided;
    signal?.removeEventListener("abort", cancel);
    return call;
  }

  /** The calls that ring here, now and from now on, until logout: `for await (const ring of client.rings())`. */
  rings() {
    // What rang between the login and this line is no less a ring.
    const queue = { calls: [...this.#calls.values()].filter((call) => call.incoming && call.state === "ringing") };
    this.#rings.add(queue);
    const next = async () => {
      for (;;) {
        const call = queue.calls.shift();
        if (call?.state === "ringing") return { value: call, done: false };
        if (call) continue;
        if (this.#engine.closed || !this.#rings.has(queue)) return { value: undefined, done: true };
        await new Promise((resolve) => Object.assign(queue, { wake: resolve }));
      }
    };
    const finish = async () => {
      this.#rings.delete(queue);
      queue.wake?.();
      return { value: undefined, done: true };
    };
    return { next, return: finish, [Symbol.asyncIterator]() { return this; } };
  }

  /** Be told when a peer comes and goes: "presence" events. */
  watch(peer) {
    escapePeer(peer);
    this.#command({ watch: { peer } });
  }
  unwatch(peer) {
    this.#command({ unwatch: { peer } });
  }

  /** End my calls, say that I am offline, close; resolves when that is done, within 2 s. */
  logout() {
    this.#command({ logout: {} });
    // A broker that acknowledges nothing is not waited for longer.
    const late = setTimeout(() => this.#stop("logged out", "logged out"), LOGOUT_TIMEOUT * 1000);
    return this.#ended.finally(() => clearTimeout(late));
  }

  // --- inside

  get #now() {
    return performance.now() / 1000;
  }

  /** What was wrong with each broker. */
  #why() {
    if (this.#rotation.urls.length === 1) return this.problem;
    return [...this.#problems].map(([url, problem]) => `${url}: ${problem}`).join("; ") || undefined;
  }

  #report(error) {
    queueMicrotask(() => globalThis.reportError ? globalThis.reportError(error) : console.error(error));
  }

  #command(input) {
    if (this.#engine.closed && !input.logout) throw new CallError("NOT_LOGGEDIN", "this login is over; nothing can be said any more");
    try {
      this.#engine.handle(input, this.#now);
    } finally {
      this.#perform();
    }
  }

  #feed(input) {
    try {
      this.#engine.handle(input, this.#now);
    } catch (error) {
      this.#engine.count("defect", error);
    }
    this.#perform();
  }

  #open() {
    this.#set(this.state === "disconnected" ? "connecting" : this.state);
    if (this.#engine.closed) return; // a listener may log out
    const link = { heard: this.#now };
    this.#link = link;
    const mine = (act) => (value) => {
      if (this.#link !== link) return;
      link.heard = this.#now;
      link.pingedAt = undefined;
      try {
        act(value);
      } catch (error) {
        this.#broke(link, error.message);
      }
    };
    link.send = (bytes) => {
      link.saidAt = this.#now;
      try {
        link.socket?.send(bytes);
      } catch (error) {
        this.#broke(link, error.message);
      }
    };
    link.mqtt = new Mqtt(link.send, (input) => {
      if (this.#link === link) this.#tell(input, link);
    });
    const { clientId, username, password } = this.#options;
    try {
      link.socket = this.#options.open(this.url, {
        open: mine(() => {
          link.greeted = true;
          link.mqtt.connect({ clientId, username, password, will: this.#engine.will() });
        }),
        data: mine((data) => link.mqtt.feed(data)),
        close: (why) => this.#broke(link, why),
      });
    } catch (error) {
      this.#stop("refused", `no connection can be opened: ${error.message}`);
      return;
    }
    this.#rearm();
  }

  #tell(input, link) {
    if (input.refused) {
      const { code } = input.refused;
      const problem = `the broker refused the login (${["", "protocol", "client id", "not available", "user name or password", "not authorised"][code] ?? code})`;
      this.problem = problem;
      if ([1, 2, 4, 5].includes(code)) this.#refusals.add(this.url);
      if (this.#login?.resolve && this.#refusals.size === this.#rotation.urls.length) {
        this.#problems.set(this.url, problem);
        this.#stop("refused", this.#why());
      } else this.#broke(link, problem);
      return;
    }
    if (input.connected) {
      link.up = this.#now;
      input.connected.time = Math.floor(Date.now() / 1000);
    }
    this.#feed(input);
  }

  #broke(link, why) {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.problem = why;
    this.#problems.set(this.url, why);
    // Where nothing was said the will would say of somebody who is about to be back that he is gone.
    if (link.greeted && !link.spoke) link.send([0xe0, 0]);
    link.socket?.close();
    if (link.up !== undefined) this.#feed({ disconnected: {} });
    if (this.#engine.closed) return;
    this.#set(this.state === "connected" ? "reconnecting" : this.state);
    const delay = this.#rotation.failed(link.up && this.#now - link.up, Math.random());
    this.retryAt = this.#now + delay;
    this.#rearm();
  }

  #perform() {
    this.#todo.push(...this.#engine.effects());
    if (this.#performing) return; // a listener's command: what was to be done before it comes first
    this.#performing = true;
    try {
      for (let effect; (effect = this.#todo.shift()); ) this.#do(effect);
    } finally {
      this.#performing = false;
    }
    this.#rearm();
  }

  #do(effect) {
    const link = this.#link;
    if (effect.note) this.#note(effect);
    else if (effect.tell === "presence") this.#event("presence", { peer: effect.peer, online: Boolean(effect.online) });
    else if (effect.tell) this.#hear(effect);
    else if (effect.drop === "defect") this.#report(effect.error);
    else if (!effect.drop && link?.up) {
      link.spoke ||= effect.publish !== undefined;
      link.mqtt.perform(effect);
      if (link.mqtt.waiting.size > MAX_REMEMBERED) this.#broke(link, "the broker acknowledges nothing");
    }
  }

  #note({ note, filter }) {
    if (note === "ready") {
      if (this.#link) this.#link.ready = true;
      this.#problems.clear();
      this.#set("connected");
      if (this.#login?.resolve) {
        clearTimeout(this.#login.timer);
        this.#login.resolve(this);
        this.#login.resolve = undefined;
      }
    } else if (note === "aborted") this.#stop("aborted", "a newer login of this peer goes on");
    else if (note === "finished") this.#stop("logged out", "logged out");
    else this.#stop("denied", `the broker refused the subscription of ${filter}`);
  }

  /** The end of this client: close, tell all who wait. */
  #stop(code, problem) {
    const link = this.#link;
    this.#link = undefined;
    this.problem = problem;
    if (!this.#engine.closed) {
      this.#engine.caller.abort();
      this.#engine.callee.abort();
      this.#engine.closed = true;
      this.#perform();
    }
    clearTimeout(this.#timer);
    clearTimeout(this.#login?.timer);
    this.#page.abort();
    if (link?.up) link.send([0xe0, 0]);
    link?.socket?.close();
    this.#set(code === "logged out" ? "disconnected" : "aborted");
    if (this.#login?.resolve) {
      this.#login.done.catch(() => {});
      this.#login.reject(new LoginError(code, problem));
      this.#login.resolve = undefined;
    }
    for (const queue of this.#rings) queue.wake?.();
    this.#over({ code, problem });
  }

  #hear({ tell, side, call, message }) {
    if (tell === "missed") {
      this.#event("missed", { peer: call.peer, callId: call.callId, reason: call.reason, channel: call.channel, content: decodeBody(call.body), time: call.time });
      return;
    }
    const key = side + call.key;
    let known = this.#calls.get(key);
    if (tell === "received") {
      known = new Call(side, call, (input) => this.#command(input));
      this.#calls.set(key, known);
      for (const queue of this.#rings) {
        queue.calls = [...queue.calls.filter((old) => old.state === "ringing"), known];
        queue.wake?.();
      }
      this.#event("ring", known);
      return;
    }
    if (tell === "callStarted") return; // "accepted" said so
    if (tell === "callMessage") {
      known?._hear(message);
      return;
    }
    if (tell === "peerLost") this.#event("lost", { peer: call.peer, callId: call.callId, reason: call.reason });
    if (known?._take(tell, call)) this.#calls.delete(key);
  }

  #event(name, detail) {
    this.dispatchEvent(Object.assign(new Event(name), { detail }));
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  /** One timer for all: what is due in the engine, the next attempt, silence of the broker. */
  #rearm() {
    clearTimeout(this.#timer);
    if (this.#engine.closed) return;
    const link = this.#link;
    let at = link?.up || !link ? this.#engine.deadline() : Infinity;
    if (!link) at = Math.min(at, this.retryAt ?? Infinity);
    else at = Math.min(at, this.#silentAt(link), this.#pingAt(link));
    if (at < Infinity) this.#timer = setTimeout(() => this.#due(), Math.min(Math.max(0, (at - this.#now) * 1000 + 1), 2 ** 31 - 1));
  }

  /** When this connection is lost, if nothing is heard: while it comes about, soon where there is another broker. */
  #silentAt(link) {
    if (!link.ready) return link.heard + this.#rotation.patience;
    return Math.min(link.heard + LOST_AFTER, (link.pingedAt ?? Infinity) + PONG_WITHIN);
  }

  /** A broker ends a connection that it hears nothing of, whatever it says itself. */
  #pingAt({ ready, pingedAt, heard, saidAt }) {
    return ready && pingedAt === undefined ? Math.min(heard, saidAt) + PING_AFTER : Infinity;
  }

  #wake() {
    const link = this.#link;
    if (link?.ready) link.heard = Math.min(link.heard, this.#now - PING_AFTER);
    this.#due();
  }

  #due() {
    const link = this.#link;
    const now = this.#now;
    if (!link && this.retryAt <= now) {
      this.retryAt = undefined;
      this.#open();
    } else if (link && now >= this.#silentAt(link)) this.#broke(link, "the broker says nothing");
    else if (link && now >= this.#pingAt(link)) {
      link.pingedAt = now;
      link.send([0xc0, 0]);
    }
    this.#feed({ time: {} });
  }
}
