/** Floor 0: bytes to values and back. Pure: no clock, no randomness, no I/O. */
export * from './malformed.ts';
export * from './checksum.ts';
export * from './address.ts';
export * from './ipv4.ts';
export * from './ipv6.ts';
export * from './icmp.ts';
export * from './icmp-extensions.ts';
export * from './tcp.ts';
export * from './mptcp-options.ts';
export * from './segment.ts';
export * from './segmentation.ts';
export * from './packet.ts';
export * from './link-layer.ts';
export * from './pcap.ts';
export { isPcapng, pcapngInterface, pcapngPacket, pcapngSection } from './pcapng.ts';
export * from './capture-reader.ts';
export * from './layers.ts';
