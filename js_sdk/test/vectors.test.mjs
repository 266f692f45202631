// The project's vectors, cell by cell, topic by topic and call by call (docs/vectors/README.md).
import { test } from "node:test";

import * as sdk from "../bellwire.js";
import { checks } from "../vectors/player.mjs";

for (const { name, run } of checks(sdk)) test(name, run);
