/** One HTTP download over our sockets, following redirects, with a look at its subflows now and then. */
import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { pipeline } from 'node:stream/promises';
import type { OutputFile } from '@subflow/link';
import { HttpAgent, HttpsAgent, multipathOf } from '@subflow/net';
import type { MultipathInfo, MultipathOptions } from '@subflow/net';
import { UsageError } from '../errors.ts';

const REDIRECTS = 5;

export interface DownloadOptions {
  url: URL;
  output: OutputFile;
  insecure: boolean;
  headers: Record<string, string>;
  /** Milliseconds without a byte before giving up. */
  timeout: number;
  multipath: MultipathOptions;
  onProgress(progress: DownloadProgress): void;
}

export interface DownloadProgress {
  received: number;
  /** -1 when the server does not say. */
  expected: number;
  info: MultipathInfo | null;
}

export interface DownloadResult {
  url: string;
  status: number;
  received: number;
  sha256: string;
  seconds: number;
  info: MultipathInfo | null;
}

/** Throws {@link UsageError} for addresses it does not understand, the network's errors and those of the output, which is discarded then. */
export async function download(options: DownloadOptions): Promise<DownloadResult> {
  try {
    return await follow(options);
  } finally {
    options.output.discard();
  }
}

async function follow(options: DownloadOptions): Promise<DownloadResult> {
  const started = performance.now();
  let url = options.url;
  for (let hop = 0; ; hop++) {
    const response = await ask(url, options);
    const { location } = response.headers;
    if (response.statusCode! >= 300 && response.statusCode! < 400 && location !== undefined) {
      response.destroy();
      if (hop === REDIRECTS) throw new UsageError('TOO_MANY_REDIRECTS', `${options.url.href}: more than ${REDIRECTS} redirects, the last to ${location}`);
      url = new URL(location, url);
      continue;
    }
    if (response.statusCode !== 200) {
      response.destroy();
      throw new UsageError('HTTP_STATUS', `${url.href}: ${response.statusCode} ${response.statusMessage ?? ''}; expected 200`);
    }
    return { ...(await take(response, options)), url: url.href, status: 200, seconds: (performance.now() - started) / 1000 };
  }
}

function ask(url: URL, options: DownloadOptions): Promise<IncomingMessage> {
  const secure = url.protocol === 'https:';
  if (!secure && url.protocol !== 'http:') throw new UsageError('BAD_URL', `"${url.href}"; expected http: or https:`);
  const { multipath } = options;
  const agent = secure ? new HttpsAgent({ ...multipath, rejectUnauthorized: !options.insecure }) : new HttpAgent(multipath);
  return new Promise((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(
      url,
      { agent, timeout: options.timeout, headers: { 'user-agent': 'subflow', accept: '*/*', ...options.headers } },
      resolve,
    );
    request.on('timeout', () => request.destroy(Object.assign(new Error(`${url.host}: silent for ${options.timeout / 1000} s`), { code: 'ETIMEDOUT' })));
    request.on('error', reject);
    request.end();
  });
}

async function take(response: IncomingMessage, options: DownloadOptions): Promise<Pick<DownloadResult, 'received' | 'sha256' | 'info'>> {
  const expected = response.headers['content-length'] === undefined ? -1 : Number(response.headers['content-length']);
  const hash = createHash('sha256');
  const multipath = multipathOf(response.socket);
  let received = 0;
  let info: MultipathInfo | null = multipath?.info() ?? null;
  const timer = setInterval(() => {
    info = multipath?.info() ?? info;
    options.onProgress({ received, expected, info });
  }, 100);
  try {
    await pipeline(
      response,
      async function* (source: AsyncIterable<Buffer>) {
        for await (const chunk of source) {
          hash.update(chunk);
          received += chunk.length;
          if (received === expected) info = multipath?.info() ?? info;
          yield chunk;
        }
        if (expected >= 0 && received !== expected) throw new UsageError('TRUNCATED', `${received} of ${expected} bytes arrived`);
      },
      options.output.stream(),
    );
  } finally {
    clearInterval(timer);
  }
  options.onProgress({ received, expected, info });
  return { received, sha256: hash.digest('hex'), info };
}
