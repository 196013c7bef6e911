/** `<option, option …>`: every word is looked up in the vocabulary. */
import { parseExpression } from './expression.ts';
import { proposal } from './proposal.ts';
import type { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { Expression, OptionSpec, Place } from './script.ts';
import { CAPABLE_FLAGS, has, OPTION_NAMES, optionForm } from './vocabulary.ts';
import type { Item, OptionForm } from './vocabulary.ts';

/** Null for `<...>`. */
export function parseOptions(scanner: Scanner): OptionSpec[] | null {
  scanner.expect(/</y, '<options>');
  if (scanner.take(/\.\.\.\s*>/y) !== null) return null;
  const out: OptionSpec[] = [];
  if (scanner.take(/>/y) !== null) return out;
  for (;;) {
    out.push(parseOption(scanner));
    if (scanner.take(/>/y) !== null) return out;
    scanner.expect(/,/y, ', and the next option, or >');
  }
}

function parseOption(scanner: Scanner): OptionSpec {
  const place = scanner.skip().place();
  const written = scanner.expect(/\w+/y, 'a TCP option')[0];
  const form = optionForm(written);
  if (form === undefined) throw new ScriptError('SCRIPT_UNSUPPORTED', place, `TCP option "${written}"; ${proposal(written, OPTION_NAMES)}`);
  const spec: OptionSpec = { name: form.name, written, place, words: new Set(), fields: new Map(), assigned: new Map(), blocks: [], cookie: null };
  takeFirst(scanner, form, spec);
  while (scanner.peek(/[,>]/y) === null && !scanner.ended) takeItem(scanner, form, spec);
  check(form, spec);
  return spec;
}

function takeFirst(scanner: Scanner, form: OptionForm, spec: OptionSpec): void {
  switch (form.first) {
    case undefined:
      return;
    case 'number':
      spec.fields.set('value', [number(scanner, `a number after ${spec.written}`)]);
      return;
    case 'blocks':
      do {
        const [, from, to] = scanner.expect(/(\d+):(\d+)/y, `blocks after ${spec.written}, such as 101:201`);
        spec.blocks.push([Number(from), Number(to)]);
      } while (scanner.peek(/\d/y) !== null);
      return;
    case 'cookie': {
      const place = scanner.skip().place();
      const cookie = scanner.take(/\w+/y);
      if (cookie === 'TFO_COOKIE') spec.cookie = 'any';
      else if (cookie !== null) {
        // RFC 7413 §2: 4 to 16 octets, an even number.
        if (!/^(?:[0-9a-fA-F]{4}){2,8}$/.test(cookie))
          throw new ScriptError('SCRIPT_SYNTAX', place, `cookie "${cookie}"; expected 4 to 16 octets in hexadecimal, TFO_COOKIE, or nothing`);
        spec.cookie = octets(cookie);
      }
    }
  }
}

function takeItem(scanner: Scanner, form: OptionForm, spec: OptionSpec): void {
  const place = scanner.skip().place();
  const written = scanner.expect(/[A-Za-z_]\w*/y, `, or > after ${spec.written}`)[0];
  const word = written.toLowerCase();
  const item = Object.hasOwn(form.items, word) ? form.items[word]! : undefined;
  if (item === undefined) {
    if (form.version && /^v\d$/.test(word) && !spec.fields.has('version')) {
      spec.fields.set('version', [{ kind: 'number', value: BigInt(word.slice(1)), place }]);
      return;
    }
    const known = [...Object.keys(form.items), ...(form.version && !spec.fields.has('version') ? ['v0', 'v1'] : [])];
    throw new ScriptError('SCRIPT_SYNTAX', place, `"${written}" in ${spec.written}; ${known.length === 0 ? 'expected , or >' : proposal(word, known)}`);
  }
  if (has(spec, word)) throw new ScriptError('SCRIPT_SYNTAX', place, `${written} is there twice in ${spec.written}`);
  if (item === 'word') {
    if (scanner.peek(/=|\[/y) !== null) scanner.fail(`nothing after ${written}`);
    spec.words.add(word);
  } else spec.fields.set(word, values(scanner, item, written, spec));
}

function values(scanner: Scanner, item: Exclude<Item, 'word'>, written: string, spec: OptionSpec): Expression[] {
  const place = scanner.skip().place();
  const given = scanner.take(/=\s*\[|=|\[/y);
  if (item === 'number' || item === 'number-or-auto') {
    if (given?.endsWith('[')) scanner.fail(`a number after ${written}`);
    if (item === 'number-or-auto' && scanner.take(/auto\b/y) !== null) return [{ kind: 'auto', place }];
    return [number(scanner, `a number after ${written}`)];
  }
  if (given === null) {
    if (item === 'value-or-auto') return [{ kind: 'auto', place }];
    scanner.fail(item === 'value' ? `= and a value after ${written}` : `[ ] after ${written}`);
  }
  if (!given.endsWith('[')) {
    if (item === 'flags' || item === 'keys' || item === 'address') scanner.fail(`[ ] after ${written}`);
    return [parseExpression(scanner)];
  }
  const out: Expression[] = [];
  while (scanner.take(/\]/y) === null) {
    if (out.length > 0) scanner.expect(/,/y, ', or ]');
    out.push(element(scanner, item, spec));
  }
  if (item !== 'list' && item !== 'keys' && item !== 'flags' && out.length !== 1)
    throw new ScriptError('SCRIPT_SYNTAX', place, `${written} has ${out.length} values; expected one`);
  return out;
}

function element(scanner: Scanner, item: Item, spec: OptionSpec): Expression {
  const place = scanner.skip().place();
  if (item === 'address') return parseExpression(scanner, 'address');
  if (item === 'flags') return { kind: 'number', value: flag(scanner, place), place };
  const definition = item === 'keys' ? scanner.match(/([A-Za-z_]\w*)\s*=/y) : null;
  if (definition === null) return parseExpression(scanner);
  const value = number(scanner, `the number of ${definition[1]}`).value;
  spec.assigned.set(definition[1]!, value);
  return { kind: 'variable', name: definition[1]!, place };
}

function flag(scanner: Scanner, place: Place): bigint {
  const [written] = scanner.expect(/\w+/y, 'a flag, or ]');
  if (/^(?:0x[0-9a-fA-F]{1,2}|\d{1,3})$/.test(written) && Number(written) < 256) return BigInt(written);
  const bit = CAPABLE_FLAGS[written.toLowerCase()];
  if (bit === undefined) throw new ScriptError('SCRIPT_SYNTAX', place, `flag "${written}"; ${proposal(written, Object.keys(CAPABLE_FLAGS))}`);
  return BigInt(bit);
}

function number(scanner: Scanner, expected: string): Expression & { kind: 'number' } {
  const place = scanner.skip().place();
  return { kind: 'number', value: BigInt(scanner.expect(/0x[0-9a-fA-F]{1,16}(?!\w)|\d{1,20}(?!\w)/y, expected)[0]), place };
}

function octets(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

function check(form: OptionForm, spec: OptionSpec): void {
  for (const words of form.either ?? []) {
    const there = words.filter((word) => has(spec, word));
    if (there.length > 1) throw new ScriptError('SCRIPT_SYNTAX', spec.place, `${there.join(' and ')} in one ${spec.written}; expected one of them`);
  }
  for (const { words, where } of form.needs ?? []) if (where === 'all') need(spec, words);
}

function need(spec: OptionSpec, words: readonly string[]): void {
  if (!words.some((word) => has(spec, word)))
    throw new ScriptError('SCRIPT_SYNTAX', spec.place, `${spec.written} without ${words.join(' or ')}; expected ${words.length === 1 ? 'it' : 'one of them'}`);
}

/** What a packet to the host must say, because nobody else does. */
export function checkIncoming(spec: OptionSpec): void {
  for (const { words, where } of optionForm(spec.name)!.needs ?? []) if (where === 'in') need(spec, words);
  if (spec.cookie === 'any') throw new ScriptError('SCRIPT_SYNTAX', spec.place, 'TFO_COOKIE in a packet to the host; expected the cookie, or nothing');
}
