/** TUN devices: IP packets between this process and the kernel, with segmentation and checksum offload or without. */
import { LinkError } from './errors.ts';
import type { LinkSource } from './link-monitor.ts';
import { close, errno, errnoName, ioctl, ioctlValue, O_CLOEXEC, O_NONBLOCK, O_RDWR, open } from './system.ts';
import { VnetPort } from './vnet-port.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNGETIFF = 0x800454d2;
const TUNGETDEVNETNS = 0x54e3;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
const TUN_F_TSO6 = 4;
/** The descriptor's device was deleted. */
const EBADFD = 77;
/** The largest super-segment's payload: 64 KB less headers and options. */
export const TUN_SEGMENTATION_LIMIT = 65535 - 120;

export interface TunOptions {
  /** Segmentation and checksum offload; default true. */
  offload?: boolean;
}

/** Whether this process can make TUN devices; if not, why. */
export function tunObstacle(): LinkError | null {
  const fd = open('/dev/net/tun', O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    // Opening is not enough: only making a device tells whether we may. It vanishes with the descriptor.
    const request = new Uint8Array(40);
    new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI, true);
    const result = ioctl(fd, TUNSETIFF, request);
    const number = errno();
    close(fd);
    return result >= 0 ? null : new LinkError('NO_PRIVILEGE', `making a TUN device: ${errnoName(number)}; expected CAP_NET_ADMIN (run as root)`);
  }
  const number = errno();
  if (number === 13 || number === 1)
    return new LinkError('NO_PRIVILEGE', `/dev/net/tun: ${errnoName(number)}; expected read and write permission (run as root)`);
  return new LinkError('NO_TUN', `/dev/net/tun: ${errnoName(number)}; expected the TUN device`);
}

/** One TUN device, open in this process. It vanishes when closed or when the process ends, however it ends. */
export class Tun extends VnetPort {
  /** Creates the device. Throws {@link LinkError} `NO_PRIVILEGE`, `NO_TUN` or `DEVICE_BUSY`. */
  constructor(name: string, options: TunOptions = {}) {
    const offload = options.offload ?? true;
    super(name, openTun(name, offload), offload, 0);
  }

  protected override linkSource(): { source: LinkSource; assumed: boolean } {
    const { fd } = this;
    // A device is made down, and its maker sets it up, perhaps elsewhere and under another name: the descriptor knows where and what it is.
    return {
      assumed: true,
      source: {
        namespace: () => {
          const namespace = ioctlValue(fd, TUNGETDEVNETNS, 0);
          if (namespace >= 0) return namespace;
          if (errno() === EBADFD) return null;
          throw new LinkError('SYSTEM_CALL', `TUNGETDEVNETNS ${this.name}: ${errnoName(errno())}`);
        },
        find: (links) => {
          const request = new Uint8Array(40);
          if (ioctl(fd, TUNGETIFF, request) < 0) return null;
          return links.byName(new TextDecoder().decode(request.subarray(0, request.indexOf(0))));
        },
        returnsAs: () => true,
      },
    };
  }
}

function openTun(name: string, offload: boolean): number {
  const obstacle = tunObstacle();
  if (obstacle !== null) throw obstacle;
  const fd = open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw new LinkError('NO_TUN', `/dev/net/tun: ${errnoName(errno())}`);
  const request = new Uint8Array(40);
  new TextEncoder().encodeInto(name.slice(0, 15), request);
  new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI | (offload ? IFF_VNET_HDR : 0), true);
  if (ioctl(fd, TUNSETIFF, request) < 0) {
    const number = errno();
    close(fd);
    if (number === 16) throw new LinkError('DEVICE_BUSY', `TUN device ${name} is in use by another process; expected a free name`);
    throw new LinkError(number === 1 ? 'NO_PRIVILEGE' : 'SYSTEM_CALL', `TUNSETIFF ${name}: ${errnoName(number)}`);
  }
  if (offload && ioctlValue(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) {
    const number = errno();
    close(fd);
    throw new LinkError('SYSTEM_CALL', `TUNSETOFFLOAD ${name}: ${errnoName(number)}`);
  }
  return fd;
}
