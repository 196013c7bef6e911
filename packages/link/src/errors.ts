/** Errors of drivers and the kernel test bench: a stable code, what was tried, what was expected. */
export type LinkErrorCode =
  | 'NO_PRIVILEGE'
  | 'NO_TUN'
  | 'DEVICE_BUSY'
  | 'SYSTEM_CALL'
  | 'COMMAND_FAILED'
  | 'PROGRAM_MISSING'
  | 'NO_KERNEL_MPTCP'
  | 'PORT_IN_USE'
  | 'UNREACHABLE'
  | 'NO_DEVICE'
  | 'BAD_OBJECT'
  | 'BAD_TIME';

export class LinkError extends Error {
  readonly code: LinkErrorCode;

  constructor(code: LinkErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
