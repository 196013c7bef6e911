/** What differs between the versions of Multipath TCP. Version 0 (RFC 6824) is not spoken yet: see the README's status table. */

/** The version this stack offers and accepts. */
export const VERSION = 1;

/** Whether a version in a peer's MP_CAPABLE can be answered; another one falls back or is answered with ours (RFC 8684 §3.1). */
export function acceptsVersion(version: number): boolean {
  return version >= VERSION;
}
