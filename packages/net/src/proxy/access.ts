/** Who may use a proxy, and where it may connect: lists of addresses and networks. */
import { BlockList, isIP } from 'node:net';
import { ProxyError } from './errors.ts';

/** `loopback`, `any`, an address, or a network such as `192.0.2.0/24`. */
export class AccessList {
  private readonly list = new BlockList();
  private readonly any: boolean;
  readonly entries: readonly string[];

  /** Throws {@link ProxyError} `BAD_ACCESS_LIST`. */
  constructor(entries: readonly string[]) {
    this.entries = entries;
    this.any = entries.includes('any');
    for (const entry of entries) {
      if (entry === 'any') continue;
      if (entry === 'loopback') {
        this.list.addSubnet('127.0.0.0', 8, 'ipv4');
        this.list.addAddress('::1', 'ipv6');
        continue;
      }
      const match = /^([^/]+)(?:\/(\d+))?$/.exec(entry);
      const family = match === null ? 0 : isIP(match[1]!);
      const bits = match?.[2] === undefined ? (family === 4 ? 32 : 128) : Number(match[2]);
      if (family === 0 || bits > (family === 4 ? 32 : 128))
        throw new ProxyError('BAD_ACCESS_LIST', `"${entry}"; expected an address, a network such as 192.0.2.0/24, loopback or any`);
      this.list.addSubnet(match![1]!, bits, family === 4 ? 'ipv4' : 'ipv6');
    }
  }

  allows(address: string): boolean {
    if (this.any) return true;
    const bare = address.replace(/^::ffff:(?=\d+\.)/i, '');
    const family = isIP(bare);
    return family !== 0 && this.list.check(bare, family === 4 ? 'ipv4' : 'ipv6');
  }
}
