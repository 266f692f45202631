/** What content, response and channel may hold: any CBOR value without tags, at most 8 KiB encoded. */
export type Body =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | ArrayBuffer
  | Body[]
  | { [key: string]: Body }
  | Map<Body, Body>;

/** What is said in a call that goes on: as a Body, at most 8,190 bytes encoded. */
export type Message = Body;

/** Why a call ended, in the protocol's words. */
export type Reason =
  | "accepted"
  | "canceled"
  | "answered elsewhere"
  | "expired"
  | "peer offline"
  | "no response"
  | "caller restarted"
  | Refusal
  | "accept failure"
  | "callee expired"
  | "caller lost"
  | "not allowed"
  | "logged out"
  | "hung up"
  | "peer lost"
  | "restarted"
  | "time is up";
export type Refusal = "declined" | "busy" | "do not disturb";
export type CallState = "calling" | "ringing" | "accepting" | "accepted" | "refused" | "canceled" | "failed" | "over";
export type ClientState = "disconnected" | "connecting" | "connected" | "reconnecting" | "aborted";

/** How a connection is opened: `webSocket` by default, `tcp()` of `bellwire/node` in Node. */
export type Open = (
  url: string,
  on: { open(): void; data(bytes: Uint8Array): void; close(why: string): void },
) => { send(bytes: ArrayLike<number>): unknown; close(): unknown };

export interface Settings {
  /** All in seconds, with the protocol's defaults. */
  ringTimeout: number;
  ackTimeout: number;
  acceptTimeout: number;
  ringSlack: number;
  callerLostGrace: number;
  resendFirst: number;
  resendMax: number;
  probeInterval: number;
  missedCallTtl: number;
  dedupWindow: number;
  presenceLinger: number;
  startupTimeout: number;
  logoutGrace: number;
  talkLimit: number;
  peerLostGrace: number;
  linkLostGrace: number;
  /** Caps, as numbers of invitations. */
  maxCallsPerCaller: number;
  maxCalls: number;
}
export const SETTINGS: Readonly<Settings>;

export interface Rung {
  peer: string;
  callId: string;
  channel?: string;
  content?: Body;
}

export interface ClientOptions {
  /** `ws:` or `wss:`; with `tcp()` of `bellwire/node`, `mqtt:` or `mqtts:`. */
  url?: string;
  /** Instead of it: several that are as good as each other, all encrypted or none. */
  urls?: string[];
  peer: string;
  password?: string;
  /** The peer id, escaped, by default. */
  username?: string;
  /** Accepted calls go on until one side hangs up, if the other side can, too. */
  talk?: boolean;
  realm?: string;
  settings?: Partial<Settings>;
  /** Seconds, at most a day; 20 by default. */
  loginTimeout?: number;
  /** Decides before anything rings, at once (no promise): nothing to let it ring, as what is no reason. `open` invitations are there already. */
  policy?: (ring: Rung, open: number) => Refusal | null | undefined;
  open?: Open;
}

/** A ring that nobody took here: its caller gave up, or the policy refused it. */
export interface Missed extends Rung {
  reason: Reason;
  /** When it was made, by the caller's clock: seconds since 1970. */
  time?: number;
}

type Listener<Detail> = ((event: Event & { readonly detail: Detail }) => void) | null;
/** Events by name, each with its `detail`. */
declare class Listening<Details> extends EventTarget {
  addEventListener<Name extends keyof Details>(name: Name, listener: Listener<Details[Name]>, options?: boolean | AddEventListenerOptions): void;
  addEventListener(...other: Parameters<EventTarget["addEventListener"]>): void;
  removeEventListener<Name extends keyof Details>(name: Name, listener: Listener<Details[Name]>, options?: boolean | EventListenerOptions): void;
  removeEventListener(...other: Parameters<EventTarget["removeEventListener"]>): void;
}
export interface CallDetails {
  change: undefined;
  message: Message;
}
export interface ClientDetails {
  state: undefined;
  ring: Call;
  missed: Missed;
  presence: { peer: string; online: boolean };
  /** The callee of an accepted call was lost before it was up. */
  lost: { peer: string; callId: string; reason: Reason };
}

export interface CallOptions {
  content?: Body;
  /** At most 64 bytes. */
  channel?: string;
  /** 16 bytes; of the calls of one group the first that is accepted ends the others. */
  group?: Uint8Array;
  /** Seconds. */
  ringTimeout?: number;
  ackTimeout?: number;
}

/** One call, made or come in. Events: "change", at each step; "message", what the other said in `detail`. */
export class Call extends Listening<CallDetails> {
  readonly incoming: boolean;
  readonly peer: string;
  readonly callId: string;
  readonly channel?: string;
  readonly content?: Body;
  readonly state: CallState;
  readonly reason?: Reason;
  /** What the callee said with its answer. */
  readonly response?: Body;
  /** The callee has it; it rings there. */
  readonly received?: boolean;
  /** The callee is not there, so far. */
  readonly offline?: boolean;
  /** The callee was lost after the call had been accepted. */
  readonly peerLost?: boolean;
  /** It was accepted and goes on (both sides with `talk: true`); in the end it is "over". */
  readonly up: boolean;
  /** Resolves with this call when it was accepted, refused, canceled or failed; never rejects. */
  readonly decided: Promise<Call>;
  /** The same when it has ended: at once where it does not go on. */
  readonly ended: Promise<Call>;
  /** Throws CallError once it has ended. */
  accept(response?: Body): void;
  refuse(options?: { response?: Body; reason?: Refusal }): void;
  cancel(): void;
  /** While it is up; handled there once, in order. Throws CallError, ALREADY_END or TOO_MANY_MESSAGES (64 wait). */
  send(message: Message): void;
  /** What the other side says, until the call has ended; of what nobody reads 1,024 wait. */
  messages(): AsyncIterableIterator<Message>;
  hangUp(reason?: "hung up" | "time is up"): void;
}

/** One peer at a broker. Events: "state", "ring", "missed", "presence", "lost" (see `detail`). */
export class Client extends Listening<ClientDetails> {
  constructor(options: ClientOptions);
  readonly state: ClientState;
  /** The broker that is dialed, or serves. */
  readonly url: string;
  /** What was wrong last with the connection, for a person. */
  readonly problem?: string;
  login(): Promise<Client>;
  logout(): Promise<{ code: string; problem: string }>;
  /** Make a call; the Call at once. */
  invite(peer: string, options?: CallOptions): Call;
  /** Make a call; resolves with the Call when it is decided. `signal` cancels it. */
  call(peer: string, options?: CallOptions & { signal?: AbortSignal; onChange?: (call: Call) => void }): Promise<Call>;
  /** The calls that ring here, until logout. */
  rings(): AsyncIterableIterator<Call>;
  watch(peer: string): void;
  unwatch(peer: string): void;
}

export class CallError extends Error {
  readonly code: "ALREADY_SENT" | "ALREADY_END" | "ALREADY_ACCEPT" | "NOT_LOGGEDIN" | "TOO_MANY_MESSAGES";
}
export class LoginError extends Error {
  readonly code: "refused" | "denied" | "aborted" | "timeout" | "logged out";
}
export class InvalidArgument extends TypeError {}
export class DecodeError extends Error {
  readonly cause: string;
}

/** The order in which a peer tries several brokers. */
export function spread(urls: string[], peer: string): string[];
/** Which of them it is now; `failed` goes on to the next and gives the pause before it. Seconds. */
export class Rotation {
  constructor(urls: string[]);
  readonly url: string;
  readonly patience: number;
  failed(lasted: number | undefined, jitter: number): number;
}

/** The transport of pages. */
export const webSocket: Open;

// --- the layers below, for tests and for other links ------------------------------------------------

export type Kind = "invite" | "answer" | "presence";
export type Cell = { state: string; epoch: Uint8Array; [field: string]: unknown };
/** What this peer has of what one may leave out: "talk". */
export const PROFILES: readonly string[];
export const MAX_CELL: number;
export const MAX_BODY: number;
export function encodeBody(value: Body, what?: string): Uint8Array;
export function encodeMessage(value: Message): Uint8Array;
export function decodeBody(data: Uint8Array | undefined): Body | undefined;
export function encodeCell(kind: Kind, cell: Cell): Uint8Array;
export function decodeCell(kind: Kind, data: Uint8Array): Cell;
export function escapePeer(peer: string, what?: string): string;
export function unescapePeer(level: string): string | undefined;
export function parseTopic(
  realm: string,
  topic: string,
): { presence: string } | { kind: "invite" | "answer"; owner: string; writer: string; callId: string } | undefined;
export function newCallId(): string;

export type Effect = { [what: string]: unknown };
/** All calls of one login, without a socket, clock or randomness; seconds of any clock that only grows. */
export class Engine {
  constructor(
    me: string,
    epoch: Uint8Array,
    options?: { realm?: string; settings?: Partial<Settings>; screen?: (call: object, open: number) => number | undefined; talk?: boolean },
  );
  readonly closed: boolean;
  readonly drops: Record<string, number>;
  handle(input: { [what: string]: unknown }, now: number): void;
  effects(): Effect[];
  deadline(): number;
  will(): { topic: string; payload: Uint8Array };
}

export {}; // what is not said to be exported is not
