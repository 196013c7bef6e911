/** A host's network interface, as the stack sees it. */
export interface InterfaceAddress {
  address: Uint8Array;
  /** Prefix length of the attached network. */
  bits: number;
}

export interface InterfaceConfig {
  name: string;
  /** Largest IP packet, bytes. */
  mtu: number;
  addresses: InterfaceAddress[];
  /** Largest super-segment payload the driver takes; 0 when it has no segmentation offload. */
  segmentationLimit?: number;
  /** The driver completes TCP checksums and has verified those of received packets. */
  checksumOffload?: boolean;
}

export class Interface {
  readonly id: number;
  readonly name: string;
  mtu: number;
  addresses: InterfaceAddress[];
  readonly segmentationLimit: number;
  readonly checksumOffload: boolean;
  up = true;
  /** IP bytes in packets for and from this host. */
  bytesReceived = 0;
  bytesSent = 0;

  constructor(id: number, config: InterfaceConfig) {
    this.id = id;
    this.name = config.name;
    this.mtu = config.mtu;
    this.addresses = config.addresses;
    this.segmentationLimit = config.segmentationLimit ?? 0;
    this.checksumOffload = config.checksumOffload ?? false;
  }
}
