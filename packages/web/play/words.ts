/** Events and options in words. */
import type { StackEvent } from '@subflow/stack';

export function sentence(event: StackEvent): string {
  const { type, time: _time, connection: _connection, ...fields } = event as StackEvent & { connection?: number };
  const words = Object.entries(fields).map(([key, value]) => `${key} ${String(value)}`);
  return `${type.replaceAll('-', ' ')}${words.length === 0 ? '' : `: ${words.join(', ')}`}`;
}

export function words(option: { kind: string }): string {
  const show = (value: unknown): string => {
    if (value instanceof Uint8Array) return [...value].map((one) => one.toString(16).padStart(2, '0')).join('');
    if (typeof value === 'object' && value !== null && 'high' in value) {
      const { high, low } = value as { high: number; low: number };
      return `0x${(high >>> 0).toString(16).padStart(8, '0')}${(low >>> 0).toString(16).padStart(8, '0')}`;
    }
    return Array.isArray(value) ? JSON.stringify(value) : String(value);
  };
  const inner = option.kind === 'mptcp' ? (option as unknown as { option: Record<string, unknown> }).option : (option as Record<string, unknown>);
  const fields = Object.entries(inner).filter(([key, value]) => key !== 'kind' && key !== 'subtype' && value !== null && value !== undefined);
  const name = option.kind === 'mptcp' ? `MP ${String(inner['subtype']).toUpperCase()}` : option.kind;
  return `${name}${fields.length === 0 ? '' : ` ${fields.map(([key, value]) => `${key}=${show(value)}`).join(' ')}`}`;
}
