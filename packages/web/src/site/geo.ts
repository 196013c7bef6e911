/** The country of an address, from a GeoIP database file (MaxMind DB format) when one is given. */
import { readFileSync } from 'node:fs';
import { Reader } from 'mmdb-lib';
import type { CountryResponse } from 'mmdb-lib';
import { SiteError } from './errors.ts';

export class Countries {
  private readonly reader: Reader<CountryResponse>;

  /** Throws {@link SiteError} `BAD_GEOIP`. */
  constructor(file: string) {
    try {
      this.reader = new Reader<CountryResponse>(readFileSync(file));
    } catch (error) {
      throw new SiteError('BAD_GEOIP', `${file}: ${(error as Error).message}; expected a GeoIP country database (.mmdb)`, { cause: error });
    }
  }

  /** ISO 3166-1 alpha-2, or null. */
  of(address: string): string | null {
    try {
      return this.reader.get(address.replace(/^::ffff:(?=\d+\.)/i, ''))?.country?.iso_code ?? null;
    } catch {
      // An address the database has no tree for.
      return null;
    }
  }
}
