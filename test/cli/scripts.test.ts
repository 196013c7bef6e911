/** Scripts of the repository: what they read of the machine, and what must stand in no file. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { sourceEntries } = (await import(join(root, 'scripts/apt-sources.mjs'))) as { sourceEntries(name: string, text: string): string };

describe('source packages come from where the machine has its packages', () => {
  it('one-line entries, with their options, each once', () => {
    const text =
      '# comment\ndeb http://mirror.example/debian bookworm main\ndeb-src http://mirror.example/debian bookworm main\n  deb [signed-by=/k.gpg arch=amd64] https://other.example/x stable a b \n';
    expect(sourceEntries('sources.list', text)).toBe(
      'deb-src http://mirror.example/debian bookworm main\ndeb-src [signed-by=/k.gpg arch=amd64] https://other.example/x stable a b\n',
    );
  });

  it('deb822 entries, with their keys', () => {
    const text =
      'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\ntypes: deb deb-src\n';
    expect(sourceEntries('x.sources', text)).toBe(text.replace('Types: deb\n', 'Types: deb-src\n').replace('types: deb deb-src', 'Types: deb-src'));
  });

  it('none where there are none', () => expect(sourceEntries('sources.list', '# nothing\n')).toBe(''));
});

it('no file names the host of a package registry', () => {
  // Hosts that serve packages are called so.
  const host =
    /\/\/(?:[\w-]+\.)*(?:deb|ftp|archive|security|registry|registries|repo|pypi|packages|npm|crates|mirrors?|artifact\w*)\.(?!example\b)[\w.-]+\.?\w{2,}/;
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' }).split('\0').filter(Boolean);
  const found = files.filter((file) => !/\.(png|pcapng|pcap|mmdb|ico|woff2?)$/.test(file) && host.test(readFileSync(join(root, file), 'utf8')));
  expect(found).toEqual([]);
});
