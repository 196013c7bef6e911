/** Words, strings and signs of a display filter. */

export interface Token {
  kind: 'word' | 'string' | 'sign';
  text: string;
  /** From 0. */
  column: number;
}

/** Longest first. */
const SIGNS = ['===', '!==', '&&', '||', '^^', '==', '!=', '~=', '>=', '<=', '..', '(', ')', '{', '}', '[', ']', ',', '>', '<', '!', '~', '&'];
/** Field names, numbers, addresses with prefixes, rows of bytes. */
const WORD = /[\w.:/-]/;

export function tokenize(text: string, fail: (column: number, message: string) => never): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const character = text[at]!;
    if (/\s/.test(character)) {
      at++;
      continue;
    }
    if (character === '"') {
      const { value, end } = quoted(text, at, fail);
      tokens.push({ kind: 'string', text: value, column: at });
      at = end;
      continue;
    }
    const sign = SIGNS.find((one) => text.startsWith(one, at));
    if (sign !== undefined) {
      tokens.push({ kind: 'sign', text: sign, column: at });
      at += sign.length;
      continue;
    }
    if (!WORD.test(character)) fail(at, `"${character}" has no meaning here`);
    let end = at;
    // A range in a set, {1..5}, is not part of a word.
    while (end < text.length && WORD.test(text[end]!) && !(text[end] === '.' && text[end + 1] === '.')) end++;
    tokens.push({ kind: 'word', text: text.slice(at, end), column: at });
    at = end;
  }
  return tokens;
}

function quoted(text: string, start: number, fail: (column: number, message: string) => never): { value: string; end: number } {
  let value = '';
  for (let at = start + 1; at < text.length; at++) {
    const character = text[at]!;
    if (character === '"') return { value, end: at + 1 };
    if (character === '\\' && at + 1 < text.length) {
      at++;
      value += text[at] === 'x' ? String.fromCharCode(Number.parseInt(text.slice(at + 1, at + 3), 16) || 0) : text[at]!;
      if (text[at] === 'x') at += 2;
      continue;
    }
    value += character;
  }
  return fail(start, 'the text does not end; expected "');
}
