/** Writes a small GeoIP database in MaxMind's DB format 2.0 (record size 24, IPv6 tree with IPv4 at ::/96), for tests. */

type Value = string | number | { [key: string]: Value } | Value[];

/** `networks`: CIDR → record. Bits are given as arrays by the caller's parser. */
export function makeMmdb(networks: readonly { bits: readonly (0 | 1)[]; country: string }[]): Buffer {
  const nodes: [number | null, number | null][] = [[null, null]];
  const data: Buffer[] = [];
  const offsets = new Map<string, number>();
  let size = 0;
  const dataAt = (country: string): number => {
    const known = offsets.get(country);
    if (known !== undefined) return known;
    const bytes = encode({ country: { iso_code: country, names: { en: country } } });
    offsets.set(country, size);
    data.push(bytes);
    size += bytes.length;
    return offsets.get(country)!;
  };
  const leaves: { node: number; side: 0 | 1; data: number }[] = [];
  for (const { bits, country } of networks) {
    let node = 0;
    bits.forEach((bit, i) => {
      if (i === bits.length - 1) {
        leaves.push({ node, side: bit, data: dataAt(country) });
        return;
      }
      if (nodes[node]![bit] === null) {
        nodes[node]![bit] = nodes.length;
        nodes.push([null, null]);
      }
      node = nodes[node]![bit]!;
    });
  }
  const count = nodes.length;
  const tree = Buffer.alloc(6 * count);
  nodes.forEach((pair, i) => {
    for (const side of [0, 1] as const) {
      const leaf = leaves.find((one) => one.node === i && one.side === side);
      tree.writeUIntBE(leaf === undefined ? (pair[side] ?? count) : count + 16 + leaf.data, 6 * i + 3 * side, 3);
    }
  });
  const metadata = encode({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1,
    database_type: 'Test-Country',
    description: { en: 'test' },
    ip_version: 6,
    languages: ['en'],
    node_count: count,
    record_size: 24,
  });
  return Buffer.concat([tree, Buffer.alloc(16), ...data, Buffer.from('abcdef4d61784d696e642e636f6d', 'hex'), metadata]);
}

/** Bits of an IPv4 network in the IPv6 tree. */
export function ipv4Bits(network: string): (0 | 1)[] {
  const [address, length] = network.split('/');
  const bytes = address!.split('.').map(Number);
  const bits = bytes.flatMap((byte) => Array.from({ length: 8 }, (_, i) => ((byte >> (7 - i)) & 1) as 0 | 1));
  return [...Array.from({ length: 96 }, () => 0 as const), ...bits.slice(0, Number(length))];
}

/** Types: 2 string, 6 uint32, 7 map, 11 array (extended). */
function encode(value: Value): Buffer {
  if (typeof value === 'string') return Buffer.concat([control(2, Buffer.byteLength(value)), Buffer.from(value)]);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return Buffer.concat([control(6, 4), bytes]);
  }
  if (Array.isArray(value)) return Buffer.concat([control(11, value.length), ...value.map(encode)]);
  const entries = Object.entries(value);
  return Buffer.concat([control(7, entries.length), ...entries.flatMap(([key, inner]) => [encode(key), encode(inner)])]);
}

function control(type: number, size: number): Buffer {
  return type <= 7 ? Buffer.from([(type << 5) | size]) : Buffer.from([size, type - 7]);
}
