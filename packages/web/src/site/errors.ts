/** Mistakes of who starts the site. */
export class SiteError extends Error {
  readonly code: 'BAD_GEOIP' | 'BAD_STORE';

  constructor(code: SiteError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
