/** A self-signed certificate for tests, made on the spot. */
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { command } from '@subflow/link';

export interface Certificate {
  key: string;
  cert: string;
  keyFile: string;
  certFile: string;
}

export function selfSigned(): Certificate {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-tls-'));
  const keyFile = join(directory, 'key.pem');
  const certFile = join(directory, 'cert.pem');
  command('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=server.example'],
    ...['-addext', 'subjectAltName=DNS:server.example,IP:192.0.2.2,IP:127.0.0.1', '-keyout', keyFile, '-out', certFile],
  ]);
  return { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(certFile, 'utf8'), keyFile, certFile };
}
