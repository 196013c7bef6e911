// The source packages of wherever this machine has its packages from: no host is named here.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Entries of one file of apt's, one-line (sources.list(5)) or deb822, asking for source packages instead; options and keys stay. */
export function sourceEntries(name, text) {
  const lines = text.split('\n');
  if (name.endsWith('.sources')) return lines.map((line) => line.replace(/^Types:.*/i, 'Types: deb-src')).join('\n');
  return [...new Set(lines.filter((line) => /^\s*deb(-src)?\s/.test(line)).map((line) => line.replace(/^\s*deb(-src)?\s+/, 'deb-src ').trimEnd()))]
    .map((line) => `${line}\n`)
    .join('');
}

/** Files with the entries of this machine, for a `sourceparts` folder of one's own: `[name, text]`. */
export function machineSources() {
  const { stdout } = spawnSync('apt-config', ['shell', 'list', 'Dir::Etc::sourcelist/f', 'parts', 'Dir::Etc::sourceparts/d'], { encoding: 'utf8' });
  const [list, parts] = ['list', 'parts'].map((name) => new RegExp(`^${name}='(.*)'$`, 'm').exec(stdout ?? '')?.[1]);
  const files = list !== undefined && existsSync(list) ? [list] : [];
  if (parts !== undefined && existsSync(parts))
    files.push(
      ...readdirSync(parts)
        .filter((name) => /\.(list|sources)$/.test(name))
        .map((name) => join(parts, name)),
    );
  return files.map((file) => [basename(file), sourceEntries(file, readFileSync(file, 'utf8'))]).filter(([, text]) => text !== '');
}
