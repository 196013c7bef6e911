/** What the script's symbols stand for: keys, and the tokens and HMACs made of them. */
import { joinHmac, keyMaterial, versionOf } from '@subflow/stack';
import type { KeyMaterial, VersionNumber } from '@subflow/stack';
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

  /** A number of the script; `auto` is what it is when nothing is written. */
  number(expression: Expression | undefined, auto: bigint, line: number): bigint {
    if (expression === undefined || expression.kind === 'auto') return auto;
    switch (expression.kind) {
      case 'number':
        return expression.value;
      case 'variable': {
        const value = this.values.get(expression.name);
        if (value === undefined) throw new ScriptError('SCRIPT_SYNTAX', line, `variable "${expression.name}" has no value yet`);
        return value;
      }
      case 'sum':
        return expression.parts.reduce((total, part) => total + this.number(part, 0n, line), 0n);
      case 'call':
        return this.call(expression.name, expression.args, line);
    }
  }

  private call(name: string, args: readonly Expression[], line: number): bigint {
    const first = this.number(args[0], 0n, line);
    switch (name) {
      // The name says the hash, the conversation's version decides: both are checked to agree.
      case 'sha256_32':
      case 'sha1_32':
        if ((name === 'sha1_32') !== (this.version === 0)) throw new ScriptError('SCRIPT_SYNTAX', line, `${name} does not belong to version ${this.version}`);
        return BigInt(this.material(first).token >>> 0);
      case 'trunc':
      case 'trunc_r32':
        return first & 0xffffffffn;
      default:
        throw new ScriptError('SCRIPT_UNSUPPORTED', line, `function "${name}"; expected sha256_32, sha1_32 or trunc`);
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
