/**
 * The events of the published measurements of iOS 11's Multipath TCP (version 0), played in the emulator: a download begins
 * on the cellular path, which the phone makes a backup in its fourth packet; Wi-Fi joins at 4.74 s and takes all traffic;
 * the phone closes the window of the cellular subflow and resets it at 5.103 s; what was lost there is reinjected.
 */
import { writeFileSync } from 'node:fs';
import { buildPacket, FLAG, isMalformed, parseAddress, parsePacketValue } from '@subflow/wire';
import { download, emulatedWorld, pcapngOf, SECOND } from './emulated.ts';
import type { TcpOption } from '@subflow/wire';
import type { World } from './emulated.ts';

export const WIFI_AT = 4.74 * SECOND;
export const WINDOW_CLOSES = 5.03 * SECOND;
export const RESET_AT = 5.103 * SECOND;

export function phone(): World {
  const world = emulatedWorld(
    [
      { name: 'cellular', client: '198.51.100.7', server: '203.0.113.10', link: { rate: 6e6, delay: 35_000, queueTime: 450_000 } },
      { name: 'wifi', client: '192.0.2.33', server: '203.0.113.11', link: { rate: 30e6, delay: 8_000, queueTime: 60_000 }, absent: true },
    ],
    { client: { mptcp: { versions: [0], checksum: true } }, server: { mptcp: { acceptVersions: [0] } } },
  );
  const { agenda, client } = world;
  // The endpoint that the world made for wifi would join by itself; the phone joins when wifi appears.
  client.host.removeEndpoint(1, 0);
  const connection = (): NonNullable<ReturnType<typeof client.host.connections.get>> => [...client.host.connections.values()][0]!;
  let asked = false;
  const [cellular] = world.paths;
  agenda.at(WIFI_AT, (now) => {
    world.setUp(1, true);
    client.host.interfaceUp(world.paths[1]!.near, now);
    client.host.addEndpoint({ address: parseAddress('192.0.2.33'), subflow: true }, now);
    client.pump();
  });
  cellular!.forward.filter = (bytes, now) => {
    const packet = parsePacketValue(bytes);
    if (isMalformed(packet) || packet.tcp === null) return bytes;
    const { tcp } = packet;
    const options = (option: TcpOption): Uint8Array =>
      buildPacket(packet.ip, { tcp: { ...tcp, options: tcp.options.map((one) => (one.kind === 'mptcp' ? option : one)) }, payload: packet.payload });
    if (!asked && (tcp.flags & FLAG.syn) === 0) {
      // The third ACK, and behind it the phone's wish that this path be a backup.
      asked = true;
      return [bytes, options({ kind: 'mptcp', option: { subtype: 'prio', flags: 1, addressId: null } })];
    }
    if (now < WINDOW_CLOSES || now >= RESET_AT || (tcp.flags & FLAG.rst) !== 0) return bytes;
    return buildPacket(packet.ip, { tcp: { ...tcp, window: 0 }, payload: packet.payload });
  };
  agenda.at(RESET_AT, (now) => {
    const subflow = connection().subflows.find((one) => one.tcb.local[0] === 198);
    if (subflow !== undefined) connection().dropSubflow(subflow, now);
    client.pump();
    // Cellular is switched off: no new subflow there.
    client.host.interfaceDown(cellular!.near, now);
    client.pump();
  });
  download(world, 8_000_000, { port: 443, upload: 1, limit: 30 * SECOND });
  return world;
}

if (process.argv[1]?.endsWith('phone.ts') === true) {
  const file = process.argv[2];
  if (file === undefined) throw new Error('phone.ts FILE.pcapng');
  writeFileSync(file, pcapngOf(phone().captured.client, ['cellular', 'wifi'], { snap: 96 }));
}
