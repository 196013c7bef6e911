/** What the script's symbols stand for: keys, and the tokens and HMACs made of them. */
import { joinHmac, keyMaterial, versionOf } from '@subflow/stack';
import type { KeyMaterial, VersionNumber } from '@subflow/stack';
import { proposal } from './proposal.ts';
import { ScriptError } from './script.ts';
import type { Expression } from './script.ts';

export interface JoinFacts {
  /** Who makes the HMAC, and whose answer it is. */
  own: KeyMaterial;
  other: KeyMaterial;
  ownNonce: number;
  otherNonce: number;
}

export class Symbols {
  private readonly values = new Map<string, bigint>();
  version: VersionNumber = 1;

  define(name: string, value: bigint): void {
    this.values.set(name, BigInt.asUintN(64, value));
  }

  value(name: string): bigint | undefined {
    return this.values.get(name);
  }

  material(key: bigint): KeyMaterial {
    return keyMaterial(Number(key >> 32n) | 0, Number(key & 0xffffffffn) | 0, versionOf(this.version));
  }

  /** A number of the script; `auto` is what it is when nothing is written. Throws {@link ScriptError}. */
  number(expression: Expression | undefined, auto: bigint): bigint {
    if (expression === undefined) return auto;
    switch (expression.kind) {
      case 'auto':
        return auto;
      case 'number':
        return expression.value;
      case 'variable': {
        const value = this.values.get(expression.name);
        if (value === undefined) throw new ScriptError('SCRIPT_SYNTAX', expression.place, `variable "${expression.name}" has no value yet`);
        return value;
      }
      case 'sum':
        return expression.parts.reduce((total, part) => total + this.number(part, 0n), 0n);
      case 'call':
        return this.call(expression);
      case 'address':
        throw new ScriptError('SCRIPT_SYNTAX', expression.place, `"${expression.text}" is an address; expected a number`);
    }
  }

  private call({ name, args, place }: Expression & { kind: 'call' }): bigint {
    if (args.length !== 1) throw new ScriptError('SCRIPT_SYNTAX', place, `${name} has ${args.length} arguments; expected one`);
    const first = this.number(args[0], 0n);
    switch (name) {
      // The name says the hash, the conversation's version decides: both are checked to agree.
      case 'sha256_32':
      case 'sha1_32':
        if ((name === 'sha1_32') !== (this.version === 0)) throw new ScriptError('SCRIPT_SYNTAX', place, `${name} does not belong to version ${this.version}`);
        return BigInt(this.material(first).token >>> 0);
      case 'trunc':
      case 'trunc_r32':
        return first & 0xffffffffn;
      default:
        throw new ScriptError('SCRIPT_UNSUPPORTED', place, `function "${name}"; ${proposal(name, ['sha256_32', 'sha1_32', 'trunc', 'trunc_r32'])}`);
    }
  }

  /** Leftmost `length` bytes of the HMAC of a join. */
  joinHmac(facts: JoinFacts, length: number): Uint8Array {
    return joinHmac(facts.own, facts.other, facts.ownNonce, facts.otherNonce, versionOf(this.version)).slice(0, length);
  }
}

/** A 64-bit number as two halves. */
export function halves(value: bigint): { high: number; low: number } {
  return { high: Number(BigInt.asIntN(32, value >> 32n)), low: Number(BigInt.asIntN(32, value)) };
}

export function joined(value: { high: number; low: number }): bigint {
  return (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0);
}

export function toBytes(value: bigint, length: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[length - 1 - i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return out;
}
