/**
 * Visits per day in a file that survives a crash: an append-only journal, each line with its checksum; a torn or damaged
 * line is left out and counted. Addresses are never written: visitors are told apart by a keyed hash whose key is thrown
 * away with the day, and then the hashes are too.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { writeOutputSync } from '@subflow/link';
import { crc32 } from './crc32.ts';
import type { Verdict } from './verdict.ts';

/** Days kept. */
const MOST_DAYS = 400;
/** Visitors told apart in a day; beyond, requests are counted only. */
const MOST_VISITORS = 200_000;
const HASH_LENGTH = 12;

export interface DayStatistics {
  /** `2026-11-21`, UTC. */
  day: string;
  requests: number;
  visitors: number;
  multipath: number;
  /** Requests over Multipath TCP by version. */
  versions: Record<string, number>;
  /** Requests by the number of subflows. */
  subflows: Record<string, number>;
  /** Requests without Multipath TCP by where it was lost. */
  lost: Record<string, number>;
  /** Requests by country (ISO 3166-1 alpha-2), with and without Multipath TCP. */
  countries: Record<string, { multipath: number; plain: number }>;
}

/** One visit in the journal. */
interface Visit {
  /** Day. */
  d: string;
  /** Visitor's hash. */
  v: string;
  m: 0 | 1;
  /** Version, subflows. */
  r?: number;
  s?: number;
  /** Where it was lost. */
  l?: string;
  /** Country. */
  c?: string;
}

export class Statistics {
  /** Lines of the journal that were damaged when it was read. */
  readonly damaged: number;
  private readonly directory: string;
  private readonly days = new Map<string, DayStatistics>();
  private visitors = new Set<string>();
  private today = '';
  private salt: Buffer;
  private fd: number;

  /** Opens or makes the store in a directory. Throws the system's error when it cannot be written. */
  constructor(directory: string, now: number) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.damaged = this.replay();
    const day = dayOf(now);
    this.salt = this.loadSalt(day);
    this.turnTo(day);
    this.fd = openSync(this.journal, 'a', 0o600);
  }

  /** Counts a request. `now` in milliseconds since the epoch. */
  record(address: string, verdict: Verdict, country: string | null, now: number): void {
    const day = dayOf(now);
    if (day !== this.today) this.newDay(day);
    const visit: Visit = {
      d: day,
      v: createHmac('sha256', this.salt).update(address).digest('hex').slice(0, HASH_LENGTH),
      m: verdict.multipath ? 1 : 0,
      ...(verdict.version === null ? {} : { r: verdict.version }),
      ...(verdict.multipath ? { s: verdict.subflows.length } : {}),
      ...(verdict.lostAt === null ? {} : { l: verdict.lostAt }),
      ...(country === null ? {} : { c: country }),
    };
    this.count(visit);
    writeSync(this.fd, seal(JSON.stringify(visit)));
  }

  /** Days from the oldest to the latest. */
  all(): DayStatistics[] {
    return [...this.days.values()].toSorted((a, b) => (a.day < b.day ? -1 : 1));
  }

  /** Puts what was written on the disk. */
  flush(): void {
    fsyncSync(this.fd);
  }

  close(): void {
    fsyncSync(this.fd);
    closeSync(this.fd);
  }

  private get journal(): string {
    return join(this.directory, 'visits.jsonl');
  }

  private get saltFile(): string {
    return join(this.directory, 'salt');
  }

  private replay(): number {
    if (!existsSync(this.journal)) return 0;
    let damaged = 0;
    const text = readFileSync(this.journal, 'utf8');
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const body = unseal(line);
      const value = body === null ? null : (JSON.parse(body) as Visit | DayStatistics);
      if (value === null) damaged++;
      else if ('day' in value) this.days.set(value.day, value);
      else this.count(value);
    }
    // A line torn by a crash would swallow the next one.
    if (text !== '' && !text.endsWith('\n')) {
      const fd = openSync(this.journal, 'r+');
      ftruncateSync(fd, Buffer.byteLength(text.slice(0, text.lastIndexOf('\n') + 1)));
      closeSync(fd);
    }
    return damaged;
  }

  private count(visit: Visit): void {
    const day = this.dayStatistics(visit.d);
    day.requests++;
    const key = `${visit.d}${visit.v}`;
    if (!this.visitors.has(key) && this.visitors.size < MOST_VISITORS) {
      this.visitors.add(key);
      day.visitors++;
    }
    if (visit.m === 1) {
      day.multipath++;
      add(day.versions, String(visit.r ?? '?'));
      add(day.subflows, String(visit.s ?? 1));
    } else add(day.lost, visit.l ?? 'not-asked');
    if (visit.c !== undefined) {
      const country = (day.countries[visit.c] ??= { multipath: 0, plain: 0 });
      if (visit.m === 1) country.multipath++;
      else country.plain++;
    }
  }

  private dayStatistics(day: string): DayStatistics {
    const found = this.days.get(day) ?? { day, requests: 0, visitors: 0, multipath: 0, versions: {}, subflows: {}, lost: {}, countries: {} };
    this.days.set(day, found);
    return found;
  }

  private newDay(day: string): void {
    closeSync(this.fd);
    this.salt = this.loadSalt(day);
    this.turnTo(day);
    this.fd = openSync(this.journal, 'a', 0o600);
  }

  /** The days before become one line each, without hashes; replaced as a whole, so that a crash leaves the old or the new. */
  private turnTo(day: string): void {
    this.today = day;
    for (const old of [...this.days.keys()].toSorted().slice(0, -MOST_DAYS)) this.days.delete(old);
    const present = existsSync(this.journal) ? readFileSync(this.journal, 'utf8').split('\n') : [];
    const keep = present.filter((line) => {
      const body = line === '' ? null : unseal(line);
      return body !== null && (JSON.parse(body) as Partial<Visit>).d === day;
    });
    const past = this.all()
      .filter((one) => one.day !== day)
      .map((one) => seal(JSON.stringify(one)));
    writeOutputSync(this.journal, `${past.join('')}${keep.map((line) => `${line}\n`).join('')}`, { mode: 0o600 });
    this.visitors = new Set([...this.visitors].filter((key) => key.startsWith(day)));
  }

  /** The day's key; yesterday's is overwritten. */
  private loadSalt(day: string): Buffer {
    if (existsSync(this.saltFile)) {
      const [of, hex] = readFileSync(this.saltFile, 'utf8').trim().split(' ');
      if (of === day && hex !== undefined && /^[0-9a-f]{64}$/.test(hex)) return Buffer.from(hex, 'hex');
    }
    const salt = randomBytes(32);
    writeOutputSync(this.saltFile, `${day} ${salt.toString('hex')}\n`, { mode: 0o600 });
    return salt;
  }
}

function dayOf(now: number): string {
  return new Date(now).toISOString().slice(0, 10);
}

function add(table: Record<string, number>, key: string): void {
  table[key] = (table[key] ?? 0) + 1;
}

function seal(body: string): string {
  return `${crc32(Buffer.from(body)).toString(16).padStart(8, '0')} ${body}\n`;
}

function unseal(line: string): string | null {
  const body = line.slice(9);
  return line[8] === ' ' && crc32(Buffer.from(body)).toString(16).padStart(8, '0') === line.slice(0, 8) ? body : null;
}
