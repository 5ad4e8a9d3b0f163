// Writes docs/rules: a part of `npm run readme`.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { makePages, PAGES_FOLDER } from "./markdown.ts";

for (const [file, text] of makePages()) writeFileSync(join(PAGES_FOLDER, file), text);
