/** Everything that reads bytes from outside: packets, options, ICMP, link layers, capture files. Nothing may throw; what parses must be emitted again. */
import type { Instrumented } from './instrument.ts';

/** Runs one input; throws when something is wrong. */
export type Target = (bytes: Uint8Array, length: number) => void;

export function wireTarget({ wire }: Instrumented): Target {
  const segment = new wire.Segment();
  const layers = new wire.Layers();
  const LINK_TYPES = Object.values(wire.LINKTYPE);
  return (buffer, length) => {
    const bytes = buffer.subarray(0, length);
    const view = new DataView(buffer.buffer, buffer.byteOffset, length);
    wire.parsePacket(view, bytes, 0, length, false, segment);
    // The first byte chooses a second reader as well, so that each gets its share of time.
    switch (length === 0 ? 0 : bytes[length - 1]! & 7) {
      case 0:
        wire.readCapture(bytes);
        return;
      case 1:
        wire.walkFrame(view, bytes, 0, length, length + (length === 0 ? 0 : bytes[0]!), LINK_TYPES[length % LINK_TYPES.length]!, layers);
        return;
      case 2:
        if (length > 4) wire.parseMptcpOption(view, 0, Math.min(length, Math.max(2, bytes[1]!)));
        return;
      default: {
        const packet = wire.parsePacketValue(bytes);
        if (wire.isMalformed(packet) || packet.tcp === null || packet.ip.fragmentOffset !== 0) return;
        const again = wire.parsePacketValue(wire.buildPacket(packet.ip, { tcp: packet.tcp, payload: packet.payload }));
        if (wire.isMalformed(again) || again.tcp === null || again.tcp.options.length !== packet.tcp.options.length)
          throw new Error('a parsed packet does not survive being emitted and parsed again');
      }
    }
  };
}
