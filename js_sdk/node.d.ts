import type { ConnectionOptions } from "node:tls";
import type { Open } from "./bellwire.js";

/** A transport for `mqtt:` and `mqtts:` URLs; `caFile` names a PEM file with the authority. */
export function tcp(options?: ConnectionOptions & { caFile?: string }): Open;
