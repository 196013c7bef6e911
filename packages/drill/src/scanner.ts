/** Reads a script from left to right and knows where it is: every mistake has a line and a column. */
import { ScriptError } from './script.ts';
import type { Place } from './script.ts';

/** Characters of the script that a message quotes. */
const QUOTED = 40;

export class Scanner {
  readonly text: string;
  at: number;
  private readonly end: number;
  private readonly lines: readonly number[];

  /** Patterns given to the methods are sticky (flag y). */
  private constructor(text: string, at: number, end: number, lines: readonly number[]) {
    this.text = text;
    this.at = at;
    this.end = end;
    this.lines = lines;
  }

  static of(source: string): Scanner {
    const text = withoutComments(source);
    const lines = [0];
    for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) lines.push(i + 1);
    return new Scanner(text, 0, text.length, lines);
  }

  /** A part of the script on its own, with places in the whole. */
  part(from: number, to: number): Scanner {
    return new Scanner(this.text.slice(0, to), from, to, this.lines);
  }

  place(at = this.at): Place {
    let low = 0;
    let high = this.lines.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.lines[middle]! <= at) low = middle;
      else high = middle;
    }
    return { line: low + 1, column: at - this.lines[low]! + 1 };
  }

  /** Past blanks; what comes is at {@link Scanner.at}. */
  skip(): this {
    while (this.at < this.end && this.text.charCodeAt(this.at) <= 32) this.at++;
    return this;
  }

  get ended(): boolean {
    return this.skip().at >= this.end;
  }

  peek(pattern: RegExp): RegExpExecArray | null {
    this.skip();
    pattern.lastIndex = this.at;
    return pattern.exec(this.text);
  }

  /** Takes what fits; null, and nothing taken, when nothing does. */
  match(pattern: RegExp): RegExpExecArray | null {
    const found = this.peek(pattern);
    if (found !== null) this.at += found[0].length;
    return found;
  }

  take(pattern: RegExp): string | null {
    return this.match(pattern)?.[0] ?? null;
  }

  expect(pattern: RegExp, expected: string): RegExpExecArray {
    return this.match(pattern) ?? this.fail(expected);
  }

  /** What stands here is not what was expected. */
  fail(expected: string): never {
    this.skip();
    const rest = this.text.slice(this.at, Math.min(this.end, this.at + QUOTED)).split('\n')[0]!;
    throw new ScriptError('SCRIPT_SYNTAX', this.place(), `${rest === '' ? 'the script ends' : JSON.stringify(rest.trimEnd())}; expected ${expected}`);
  }
}

/** Comments are blanked, so that everything stays in its place: `//` and `#` to the end of the line, C's between its marks. */
function withoutComments(source: string): string {
  const blank = (text: string): string => text.replace(/[^\n]/g, ' ');
  // Strings, shell commands and code blocks are left alone: what looks like a comment there is theirs.
  return source.replace(/"(?:[^"\\\n]|\\.)*"|`[^`]*`|%\{[\s\S]*?\}%|\/\*[\s\S]*?\*\/|\/\/[^\n]*|^[ \t]*#[^\n]*/gm, (found) =>
    /^(?:\/\*|\/\/|[ \t]*#)/.test(found) ? blank(found) : found,
  );
}
