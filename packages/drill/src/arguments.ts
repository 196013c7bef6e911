/** The arguments of a system call, read as what the call takes; everything else is refused with its place. */
import { proposal } from './proposal.ts';
import { ScriptError } from './script.ts';
import type { CallSpec, Place, Value } from './script.ts';

export class Arguments {
  readonly call: CallSpec;
  private readonly form: string;

  /** `form`: how the call is written, for messages. Throws {@link ScriptError} for another number of arguments. */
  constructor(call: CallSpec, form: string, count: number) {
    this.call = call;
    this.form = form;
    if (call.args.length !== count)
      throw new ScriptError(
        'SCRIPT_SYNTAX',
        call.args[count]?.place ?? call.end,
        `${call.name} has ${call.args.length} argument${call.args.length === 1 ? '' : 's'}; expected ${form}`,
      );
  }

  place(i: number): Place {
    return this.call.args[i]!.place;
  }

  refuse(i: number, expected: string): never {
    throw new ScriptError('SCRIPT_UNSUPPORTED', this.place(i), `${show(this.call.args[i]!)} in ${this.call.name}; expected ${expected}, as in ${this.form}`);
  }

  /** What the script leaves to the runner. */
  any(i: number): void {
    if (this.call.args[i]!.kind !== 'any') this.refuse(i, '...');
  }

  number(i: number, low = 0, high = 2 ** 31 - 1): number {
    const value = this.call.args[i]!;
    if (value.kind !== 'number' || value.value < low || value.value > high) this.refuse(i, high === low ? String(low) : `a number from ${low} to ${high}`);
    return value.value;
  }

  /** One of some names. */
  name(i: number, known: readonly string[]): string {
    const [first, ...more] = this.names(i, known);
    if (more.length > 0) this.refuse(i, 'one name');
    return first!;
  }

  /** Some of the names, with | between them. */
  names(i: number, known: readonly string[]): string[] {
    const value = this.call.args[i]!;
    if (value.kind !== 'names') this.refuse(i, known.join(', '));
    const wrong = value.names.find((name) => !known.includes(name));
    if (wrong !== undefined) throw new ScriptError('SCRIPT_UNSUPPORTED', value.place, `"${wrong}" in ${this.call.name}; ${proposal(wrong, known)}`);
    return value.names;
  }

  /** Flags: 0, or names that the table knows. */
  flags(i: number, known: readonly string[]): string[] {
    const value = this.call.args[i]!;
    return value.kind === 'number' && value.value === 0 ? [] : this.names(i, known);
  }

  /** The one value in `[…]`; null for `...`. */
  inBrackets(i: number): Value | null {
    const value = this.call.args[i]!;
    const inner = value.kind === 'list' && value.values.length === 1 ? value.values[0]! : value.kind === 'any' ? value : this.refuse(i, '[ ] with one value');
    return inner.kind === 'any' ? null : inner;
  }

  /** Numbers of `{name=number, …}`. */
  struct(i: number, fields: readonly string[]): Record<string, number> {
    const value = this.call.args[i]!;
    const form = `{${fields.map((name) => `${name}=number`).join(', ')}}`;
    if (value.kind !== 'struct') this.refuse(i, form);
    for (const [name, inner] of value.fields)
      if (!fields.includes(name)) throw new ScriptError('SCRIPT_SYNTAX', inner.place, `"${name}" in ${this.call.name}; ${proposal(name, fields)}`);
    return Object.fromEntries(
      fields.map((name) => {
        const inner = value.fields.get(name);
        return inner?.kind === 'number' ? [name, inner.value] : this.refuse(i, form);
      }),
    );
  }
}

function show(value: Value): string {
  switch (value.kind) {
    case 'any':
      return '...';
    case 'number':
      return String(value.value);
    case 'names':
      return `"${value.names.join('|')}"`;
    case 'list':
      return `[${value.values.map(show).join(', ')}]`;
    case 'struct':
      return `{${[...value.fields].map(([name, inner]) => `${name}=${show(inner)}`).join(', ')}}`;
    case 'text':
      return JSON.stringify(value.text);
    case 'call':
      return `${value.name}(${value.args.map(show).join(', ')})`;
  }
}
