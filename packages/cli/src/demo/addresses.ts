/** Addresses of the demonstration's paths, from the documentation ranges (RFC 5737, RFC 3849). */
const NETWORKS = ['192.0.2', '198.51.100', '203.0.113'];

export interface PathAddresses {
  client: string;
  server: string;
  bits: number;
}

export function addressesOf(index: number, family: 4 | 6): PathAddresses {
  if (family === 6) return { client: `2001:db8:${index + 1}::1`, server: `2001:db8:${index + 1}::2`, bits: 64 };
  const network = NETWORKS[index % 3]!;
  const base = 4 * Math.floor(index / 3);
  return { client: `${network}.${base + 1}`, server: `${network}.${base + 2}`, bits: 30 };
}
