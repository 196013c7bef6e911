/** The repository's own scripts, and small ones to change. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../../../test/drill/scripts/', import.meta.url));

export interface OwnScript {
  name: string;
  source: string;
}

export function ownScripts(folder = FOLDER): OwnScript[] {
  return readdirSync(folder)
    .sort()
    .flatMap((name) => {
      const path = join(folder, name);
      return statSync(path).isDirectory() ? ownScripts(path) : [{ name: relative(FOLDER, path), source: readFileSync(path, 'utf8') }];
    });
}

/** Six lines: a listener, a client's handshake, the accepted socket 4. */
export const ACCEPTED = `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 65535 <mss 1460>
+0 > S. 0:0(0) ack 1 <mss 1460>
+0.01 < . 1:1(0) ack 1 win 257
+0 accept(3, ..., ...) = 4
`;
/** The line that comes next. */
export const NEXT = 8;
