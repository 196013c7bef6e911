/**
 * The language of packets: `IP(ttl=3) / TCP(flags=SYN) / MSS(1460) / MP_CAPABLE(version=1) / DATA("GET /")`, layers
 * separated by slashes, arguments by name or in order. Values: numbers, 0x…, texts, addresses, `$names`, and functions
 * of Multipath TCP's keys: `token($key)`, `idsn($key)`, `hmac($a, $b, $na, $nb)`.
 */
import { addAddressHmac, joinHmac, keyMaterial, versionOf } from '@subflow/stack';
import type { VersionNumber } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';
import { ProbeError } from '../errors.ts';
import { u64 } from '../session.ts';

export type Value = bigint | string | Uint8Array;

/** A layer with its arguments: those without a name are numbered from 0. */
export interface Layer {
  name: string;
  arguments: Map<string, Value>;
}

/** Names that packets may use, and the version whose hashes count. */
export interface Scope {
  values: Map<string, Value>;
  version: VersionNumber;
  random: () => number;
}

type Token = { kind: 'name' | 'number' | 'text' | 'variable' | 'sign'; text: string; at: number };

const TOKEN = /\s*(?:(\$[A-Za-z_]\w*)|(0x[0-9a-fA-F]+|\d[\w.:]*)|"((?:[^"\\]|\\.)*)"|([A-Za-z_][\w.:-]*)|([()/,=+|]))/y;

/** Reads layers. Throws {@link ProbeError} `BAD_PROBE` with the place. */
export function parseLayers(text: string, scope: Scope): Layer[] {
  const tokens = tokenize(text);
  const layers: Layer[] = [];
  let i = 0;
  const peek = (): Token | undefined => tokens[i];
  const wrong = (what: string): ProbeError =>
    new ProbeError('BAD_PROBE', `"${text}": ${what} at ${peek() === undefined ? 'the end' : `character ${peek()!.at + 1} ("${peek()!.text}")`}`);
  const take = (sign: string): void => {
    if (peek()?.text !== sign || peek()?.kind !== 'sign') throw wrong(`expected "${sign}"`);
    i++;
  };
  const value = (): Value => {
    let left = term();
    while (peek()?.kind === 'sign' && (peek()!.text === '+' || peek()!.text === '|')) {
      const sign = tokens[i++]!.text;
      const right = term();
      left = sign === '+' ? asNumber(left, text) + asNumber(right, text) : asNumber(left, text) | asNumber(right, text);
    }
    return left;
  };
  const term = (): Value => {
    const token = tokens[i];
    if (token === undefined) throw wrong('expected a value');
    i++;
    switch (token.kind) {
      case 'variable': {
        const known = scope.values.get(token.text.slice(1));
        if (known === undefined)
          throw new ProbeError(
            'BAD_PROBE',
            `"${text}": ${token.text} is not known; expected one of ${[...scope.values.keys()].map((name) => `$${name}`).join(', ') || 'none so far'}`,
          );
        return known;
      }
      case 'number':
        return /^(0x[0-9a-fA-F]+|\d+)$/.test(token.text) ? BigInt(token.text) : token.text;
      case 'text':
        return token.text;
      case 'name':
        if (peek()?.kind === 'sign' && peek()!.text === '(') {
          const list = args();
          return call(token.text, [...list.values()], scope, text);
        }
        return token.text;
      default:
        i--;
        throw wrong('expected a value');
    }
  };
  const args = (): Map<string, Value> => {
    const out = new Map<string, Value>();
    take('(');
    for (let n = 0; !(peek()?.kind === 'sign' && peek()!.text === ')');) {
      if (peek() === undefined) throw wrong('expected ")"');
      const named = peek()!.kind === 'name' && tokens[i + 1]?.text === '=' && tokens[i + 1]?.kind === 'sign';
      if (named) {
        const name = tokens[i]!.text;
        i += 2;
        out.set(name, value());
      } else {
        out.set(String(n++), value());
      }
      if (peek()?.kind === 'sign' && peek()!.text === ',') i++;
      else if (!(peek()?.kind === 'sign' && peek()!.text === ')')) throw wrong('expected "," or ")"');
    }
    take(')');
    return out;
  };
  for (;;) {
    const token = peek();
    if (token === undefined || token.kind !== 'name') throw wrong('expected a layer, for example IP, TCP, MP_CAPABLE or DATA');
    i++;
    const bracket = peek();
    layers.push({ name: token.text, arguments: bracket?.kind === 'sign' && bracket.text === '(' ? args() : new Map() });
    if (peek() === undefined) return layers;
    take('/');
  }
}

/** A single value, as it stands in `let`. */
export function parseValue(text: string, scope: Scope): Value {
  return parseLayers(`VALUE(${text})`, scope)[0]!.arguments.get('0') ?? '';
}

function tokenize(text: string): Token[] {
  const out: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex + (text.slice(TOKEN.lastIndex).length - text.slice(TOKEN.lastIndex).trimStart().length);
    if (at >= text.length) break;
    const match = TOKEN.exec(text);
    if (match === null) throw new ProbeError('BAD_PROBE', `"${text}": "${text[at]}" at character ${at + 1} is not understood`);
    const [, variable, number, quoted, name, sign] = match;
    const start = TOKEN.lastIndex - match[0].trimStart().length;
    if (variable !== undefined) out.push({ kind: 'variable', text: variable, at: start });
    else if (number !== undefined) out.push({ kind: 'number', text: number, at: start });
    else if (quoted !== undefined) out.push({ kind: 'text', text: unescaped(quoted), at: start });
    else if (name !== undefined) out.push({ kind: 'name', text: name, at: start });
    else out.push({ kind: 'sign', text: sign!, at: start });
  }
  return out;
}

function unescaped(text: string): string {
  return text.replace(/\\(r|n|t|"|\\)/g, (_, letter: string) => ({ r: '\r', n: '\n', t: '\t' })[letter] ?? letter);
}

/** Functions of the language. */
function call(name: string, list: readonly Value[], scope: Scope, text: string): Value {
  const number = (i: number): bigint => asNumber(list[i] ?? '', text);
  const version = versionOf(scope.version);
  const material = (key: bigint): ReturnType<typeof keyMaterial> => keyMaterial(Number(key >> 32n), Number(key & 0xffffffffn), version);
  switch (name) {
    case 'random32':
      return BigInt(scope.random());
    case 'random64':
      return (BigInt(scope.random()) << 32n) | BigInt(scope.random());
    case 'token':
      return BigInt(material(number(0)).token >>> 0);
    case 'idsn': {
      const one = material(number(0));
      return (BigInt(one.idsnHigh >>> 0) << 32n) | BigInt(one.idsnLow >>> 0);
    }
    case 'hmac':
      // Sender's key, receiver's key, sender's nonce, receiver's nonce (RFC 8684 §3.2).
      return joinHmac(u64(number(0)), u64(number(1)), Number(number(2)), Number(number(3)), version);
    case 'addAddrHmac':
      return addAddressHmac(u64(number(0)), u64(number(1)), Number(number(2)), addressOf(list[3], text), Number(list[4] === undefined ? 0n : number(4)));
    case 'left':
      return bytesOf(list[0], text).slice(0, Number(number(1)));
    case 'right':
      return bytesOf(list[0], text).slice(-Number(number(1)));
    case 'hex': {
      const digits = String(list[0] ?? '');
      if (!/^([0-9a-fA-F]{2})*$/.test(digits)) throw new ProbeError('BAD_PROBE', `"${text}": hex("${digits}"); expected pairs of hexadecimal digits`);
      return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    }
    default:
      throw new ProbeError('BAD_PROBE', `"${text}": no function "${name}"; expected random32, random64, token, idsn, hmac, addAddrHmac, left, right or hex`);
  }
}

export function asNumber(value: Value | undefined, text: string): bigint {
  if (typeof value === 'bigint') return value;
  throw new ProbeError('BAD_PROBE', `"${text}": ${value instanceof Uint8Array ? 'octets' : `"${value ?? 'nothing'}"`} where a number is expected`);
}

export function bytesOf(value: Value | undefined, text: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'string') return new TextEncoder().encode(value);
  throw new ProbeError('BAD_PROBE', `"${text}": ${value ?? 'nothing'} where octets or a text are expected`);
}

export function addressOf(value: Value | undefined, text: string): Uint8Array {
  try {
    if (typeof value === 'string') return parseAddress(value);
  } catch {
    // Said below, with the place.
  }
  throw new ProbeError('BAD_PROBE', `"${text}": ${String(value)} is not an address`);
}
