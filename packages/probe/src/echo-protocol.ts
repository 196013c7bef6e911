/**
 * How prober and echo server talk: frames in a TCP stream that boxes may have tampered with. A frame is found by its start and
 * believed by its checksum; whatever stands before it is skipped. Requests are one segment long.
 */

import { parseAddress } from '@subflow/wire';
import { z } from 'zod';

/** What the prober asks. */
export type EchoRequest =
  /** Flows from the asker's address since a serial number. */
  | { op: 'flows'; since: number }
  /** Packets of a flow, as they came and went. */
  | { op: 'packets'; flow: number; from: number }
  /** Sends packets of the server's on a flow again, cut or with other options, at full TTL or along the path. */
  | { op: 'again'; flow: number; packets: EchoTemplate[] }
  | { op: 'walk'; flow: number; packets: EchoTemplate[]; hops: number }
  /** How far the asker is, by echo requests. */
  | { op: 'distance'; hops: number };

/** A packet the server has sent, changed. */
export interface EchoTemplate {
  /** Index in the flow's packets. */
  packet: number;
  /** Part of its payload. */
  from?: number;
  to?: number;
  /** Options instead of the packet's, in hexadecimal. */
  options?: string;
  /** DSCP and ECN. */
  trafficClass?: number;
  window?: number;
}

export interface EchoFlow {
  id: number;
  remote: string;
  remotePort: number;
  /** First sequence number of the client as it arrived, unsigned. */
  irs: number;
  packets: number;
}

export interface EchoPacket {
  index: number;
  direction: 'in' | 'out';
  /** Microseconds on the server's clock. */
  at: number;
  hex: string;
}

/** A hop of a walk at the server, quotes in hexadecimal. */
export interface EchoHop {
  ttl: number;
  answers: { from: string; rtt: number; sent: string; quote: string; type: number; code: number }[];
}

export type EchoResponse =
  | { ok: true; flows: EchoFlow[]; serial: number; you: string; server: string }
  | { ok: true; packets: EchoPacket[]; more: boolean }
  | { ok: true; sent: string[] }
  | { ok: true; hops: EchoHop[]; sent: string[] }
  | { ok: true; distance: number | null; hops: (string | null)[] }
  | { ok: false; code: string; message: string };

const octets = z.string().regex(/^([0-9a-f]{2}){0,4000}$/);
const address = z.string().refine((text) => {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}, 'expected an address');
const count = z.number().int().min(0);
const list = <T extends z.ZodType>(item: T) => z.array(item).max(4096);

/** What an answer must look like: whoever sends it may lie, but not break the prober. */
const responses: z.ZodType<EchoResponse> = z.union([
  z.object({ ok: z.literal(false), code: z.string(), message: z.string() }),
  z.object({
    ok: z.literal(true),
    flows: list(z.object({ id: count, remote: address, remotePort: count, irs: count, packets: count })),
    serial: count,
    you: address,
    server: address,
  }),
  z.object({
    ok: z.literal(true),
    packets: list(z.object({ index: count, direction: z.enum(['in', 'out']), at: z.number(), hex: octets })),
    more: z.boolean(),
  }),
  z.object({
    ok: z.literal(true),
    hops: list(
      z.object({
        ttl: count,
        answers: list(z.object({ from: address, rtt: z.number(), sent: octets, quote: octets, type: count, code: count })),
      }),
    ),
    sent: list(octets),
  }),
  z.object({ ok: z.literal(true), sent: list(octets) }),
  z.object({ ok: z.literal(true), distance: count.nullable(), hops: list(address.nullable()) }),
]);

/** An answer, or null for what is none. */
export function readResponse(value: unknown): EchoResponse | null {
  const result = responses.safeParse(value);
  return result.success ? result.data : null;
}

const START = 'SFP1 ';
/** Boxes that touch the first bytes of a segment, or drop some, touch these. */
const PADDING = '\n'.repeat(24);
const MAX_FRAME = 1 << 20;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A frame around a value. */
export function encodeFrame(value: unknown): Uint8Array {
  const text = JSON.stringify(value);
  const body = encoder.encode(text);
  return encoder.encode(`${PADDING}${START}${body.length.toString(16).padStart(6, '0')} ${fnv(body).toString(16).padStart(8, '0')} ${text}\n`);
}

/** The first whole and undamaged frame in a stream; null when there is none yet. Never throws. */
export function decodeFrame(bytes: Uint8Array): unknown {
  const header = START.length + 16;
  for (let at = 0; at + header <= bytes.length; at++) {
    if (bytes[at] !== 0x53 || decoder.decode(bytes.subarray(at, at + START.length)) !== START) continue;
    const match = /^([0-9a-f]{6}) ([0-9a-f]{8}) $/.exec(decoder.decode(bytes.subarray(at + START.length, at + header)));
    if (match === null) continue;
    const length = Number.parseInt(match[1]!, 16);
    const body = bytes.subarray(at + header, at + header + length);
    if (length > MAX_FRAME || body.length < length || fnv(body) !== Number.parseInt(match[2]!, 16)) continue;
    try {
      return JSON.parse(decoder.decode(body)) as unknown;
    } catch {
      // A checksum may fit by chance.
    }
  }
  return null;
}

/** FNV-1a: enough against boxes that do not aim at it. */
function fnv(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

export function unhex(text: string): Uint8Array {
  const out = new Uint8Array(text.length >>> 1);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
}
