/** A directory as a page. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { escapeHtml } from '@subflow/web/site';
import { sizeText } from '../network/terminal.ts';

/** HTML of the entries of `directory`, which is `path` to the visitor. Hidden files are left out, as they are not served. */
export function listing(directory: string, path: string): string {
  const rows = readdirSync(directory)
    .filter((name) => !name.startsWith('.'))
    .sort()
    .flatMap((name) => {
      try {
        const found = statSync(join(directory, name));
        const shown = found.isDirectory() ? `${name}/` : name;
        return [
          `<tr><td><a href="${encodeURIComponent(name)}${found.isDirectory() ? '/' : ''}">${escapeHtml(shown)}</a></td><td>${found.isDirectory() ? '' : sizeText(found.size)}</td></tr>`,
        ];
      } catch {
        // A dangling link.
        return [];
      }
    });
  const title = escapeHtml(path);
  const up = path === '/' ? '' : '<tr><td><a href="../">../</a></td><td></td></tr>';
  return `<!doctype html><meta charset="utf-8"><title>${title}</title><style>body{font-family:system-ui;margin:2em}td{padding:.1em 1em .1em 0}</style><h1>${title}</h1><table>${up}${rows.join('')}</table>\n`;
}
