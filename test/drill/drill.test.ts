import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { runDrill } from '@subflow/drill';

const SCRIPTS = fileURLToPath(new URL('./scripts/', import.meta.url));

function scriptsUnder(folder: string): string[] {
  return readdirSync(folder)
    .sort()
    .flatMap((name) => (statSync(join(folder, name)).isDirectory() ? scriptsUnder(join(folder, name)) : [join(folder, name)]));
}

const SERVER = `0 socket(..., SOCK_STREAM, IPPROTO_MPTCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 65535 <mss 1460, mpcapable v1 flags[flag_h] nokey>
`;

describe('drill scripts', () => {
  const files = scriptsUnder(SCRIPTS);

  it('are sixty or more, and say which section they check', () => {
    expect(files.length).toBeGreaterThanOrEqual(60);
    for (const file of files) expect(readFileSync(file, 'utf8')).toMatch(/^\/\/ RFC \d+ (§|appendix)/);
  });

  it.each(files.map((file) => [relative(SCRIPTS, file), file]))('%s', (_name, file) => {
    const result = runDrill(file, readFileSync(file, 'utf8'));
    expect(result.failure?.message ?? null).toBeNull();
    expect(result.events).toBeGreaterThan(3);
  });
});

describe('the runner notices', () => {
  const failure = (last: string): { code: string; message: string } => {
    const result = runDrill('inline', `${SERVER}${last}\n`);
    expect(result.passed).toBe(false);
    return result.failure!;
  };

  it.each([
    ['wrong flags', '+0 > S 0:0(0) ack 1 <...>', /flags is S\., expected S|flags is/],
    ['a wrong acknowledgement', '+0 > S. 0:0(0) ack 2 <...>', /ack is 1, expected 2/],
    ['a wrong option value', '+0 > S. 0:0(0) ack 1 <mss 1400, mpcapable v1 flags[flag_h] key[skey]>', /mss: value is 1460, expected 1400/],
    ['a wrong flag of MP_CAPABLE', '+0 > S. 0:0(0) ack 1 <mss 1460, mpcapable v1 flags[flag_a, flag_h] key[skey]>', /flags is 1, expected 81/],
    ['a missing option', '+0 > S. 0:0(0) ack 1 <mss 1460, sackOK, mpcapable v1 flags[flag_h] key[skey]>', /number of options is 2, expected 3/],
    ['an option too many', '+0 > S. 0:0(0) ack 1 <mss 1460>', /number of options is 2, expected 1/],
  ])('%s', (_name, line, message) => {
    const { code, message: seen } = failure(line);
    expect(code).toBe('DRILL_MISMATCH');
    expect(seen).toMatch(message);
  });

  it('a packet that does not come, or comes too late', () => {
    expect(failure('+0 > S. 0:0(0) ack 1 <...>\n+0 > . 1:1(0) ack 1').code).toBe('DRILL_TIMEOUT');
    expect(failure('+0 > S. 0:0(0) ack 1 <...>\n+0.3 > S. 0:0(0) ack 1 <...>').code).toBe('DRILL_TIMEOUT');
  });

  it('a wrong result of a call', () => {
    expect(failure('+0 socket(..., SOCK_STREAM, IPPROTO_MPTCP) = 9').message).toContain('socket returned 4, expected 9');
  });

  it('what is no packetdrill, with its line', () => {
    expect(failure('+0 < S 0:5(0) win 1')).toMatchObject({ code: 'SCRIPT_SYNTAX' });
    expect(failure('+0 > Q nonsense')).toMatchObject({ code: 'SCRIPT_SYNTAX' });
    expect(failure('+0 < . 1:1(0) ack 1 win 10 <mpcapable v1 flags[flag_h] key[unknown, skey]>')).toMatchObject({ code: 'SCRIPT_SYNTAX' });
  });

  it('what it does not support, instead of ignoring it', () => {
    expect(failure('+0 epoll_wait(3, ..., 1, 0) = 0')).toMatchObject({ code: 'SCRIPT_UNSUPPORTED' });
    expect(failure('+0 `sysctl -w net.ipv4.tcp_frto=2`')).toMatchObject({ code: 'SCRIPT_UNSUPPORTED' });
    expect(failure('+0 `rm -rf /`')).toMatchObject({ code: 'SCRIPT_UNSUPPORTED' });
  });
});
