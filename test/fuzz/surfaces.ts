// All surfaces. A new reader of text from outside belongs here.

import { ARGUMENTS } from "./arguments.ts";
import { DOCUMENTS } from "./documents.ts";
import { HOST } from "./host-texts.ts";
import { RULES } from "./rule-texts.ts";
import type { Surface } from "./surface.ts";

export const SURFACES: readonly Surface[] = [...ARGUMENTS, ...DOCUMENTS, ...HOST, ...RULES];
