/** Nothing of a script passes unseen: what is not understood is an error with its place, what is understood is compared. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runDrill } from '@subflow/drill';
import { ACCEPTED, NEXT, ownScripts } from './scripts.ts';

const failure = (source: string): NonNullable<ReturnType<typeof runDrill>['failure']> => {
  const result = runDrill('inline', source);
  expect(result.passed).toBe(false);
  return result.failure!;
};

describe('what is not understood is an error with line, column and what was expected', () => {
  const UNSUPPORTED = 'SCRIPT_UNSUPPORTED';
  const SYNTAX = 'SCRIPT_SYNTAX';

  // ¦ stands where the mistake is.
  it.each([
    ['an unknown setting', `¦--speed=10\n${ACCEPTED}`, UNSUPPORTED, /"--speed=10"; expected tolerance_usecs, ip_version, mtu/],
    ['a setting that is nearly one', `¦--tolerance_usec=10\n${ACCEPTED}`, UNSUPPORTED, /did you mean "tolerance_usecs"\?/],
    ['a value that a setting cannot have', `¦--mtu=9\n${ACCEPTED}`, SYNTAX, /--mtu=9"; expected --mtu= with 296 to 65535/],
    ['a setting without a value', `¦--ip_version\n${ACCEPTED}`, SYNTAX, /ipv4 or ipv6/],
    ['a setting below the first event', `${ACCEPTED}¦--mtu=900`, SYNTAX, /at the beginning of the script/],
    ['a shell command', `0 \`¦echo hello\`\n${ACCEPTED}`, UNSUPPORTED, /command "echo"; expected sysctl, /],
    ['a shell command that is nearly one', `0 \`¦sysclt -w net.mptcp.enabled=1\`\n${ACCEPTED}`, UNSUPPORTED, /did you mean "sysctl"\?/],
    ['the second of two commands', `\`sysctl -w net.mptcp.enabled=1\n  ¦tc qdisc add\`\n${ACCEPTED}`, UNSUPPORTED, /command "tc"/],
    ['a command behind another', `\`true && ¦modprobe x\`\n${ACCEPTED}`, UNSUPPORTED, /command "modprobe"/],
    ['a kernel setting', `\`sysctl -q ¦net.ipv4.tcp_frto=2\`\n${ACCEPTED}`, UNSUPPORTED, /sysctl net\.ipv4\.tcp_frto/],
    ['a kernel setting’s value', `\`sysctl ¦net.mptcp.pm_type=1\`\n${ACCEPTED}`, UNSUPPORTED, /net\.mptcp\.pm_type=1; expected 0/],
    ['one of the helper’s settings', `\`../common/set_sysctls.py ¦/proc/sys/net/ipv4/tcp_x=1\`\n${ACCEPTED}`, UNSUPPORTED, /sysctl net\.ipv4\.tcp_x/],
    ['a kernel setting while the host runs', `${ACCEPTED}+0 \`sysctl ¦net.mptcp.enabled=0\``, UNSUPPORTED, /while the host runs/],
    ['a flag of an endpoint', `\`ip mptcp endpoint add caddr1 subflow ¦fulmesh\`\n${ACCEPTED}`, UNSUPPORTED, /did you mean "fullmesh"\?/],
    ['an endpoint that is not there', `${ACCEPTED}+0 \`¦ip mptcp endpoint delete id 9\``, SYNTAX, /no endpoint 9/],
    ['an unfinished command', `¦\`sysctl net.mptcp.enabled=0\n${ACCEPTED}`, SYNTAX, /second backtick/],
    ['a code block', `${ACCEPTED}+0 ¦%{ assert tcpi_state == 1 }%`, UNSUPPORTED, /code blocks/],
    ['a system call', `${ACCEPTED}+0 ¦epoll_wait(4, ..., 1, 0) = 0`, UNSUPPORTED, /system call "epoll_wait"/],
    ['a system call that is nearly one', `${ACCEPTED}+0 ¦shutdwon(4, SHUT_WR) = 0`, UNSUPPORTED, /did you mean "shutdown"\?/],
    ['a file descriptor that is not open', `${ACCEPTED}+0 bind(¦77, ..., ...) = 0`, SYNTAX, /77 is not open; expected 3, 4/],
    ['a descriptor that is closed', `${ACCEPTED}+0 close(4) = 0\n+0 read(¦4, ..., 1) = 0`, SYNTAX, /4 is not open; expected 3/],
    ['an argument too few', `${ACCEPTED}+0 read(4, ...¦) = 0`, SYNTAX, /read has 2 arguments; expected read\(4, \.\.\., 1000\)/],
    ['an argument too many', `${ACCEPTED}+0 shutdown(4, SHUT_WR, ¦0) = 0`, SYNTAX, /shutdown has 3 arguments/],
    ['an address of a call', `${ACCEPTED}+0 connect(4, ¦AF_UNSPEC, ...) = 0`, UNSUPPORTED, /"AF_UNSPEC" in connect; expected \.\.\./],
    ['a flag of a call', `${ACCEPTED}+0 recv(4, ..., 10, ¦MSG_PEEK) = 0`, UNSUPPORTED, /"MSG_PEEK" in recv/],
    ['a kind of socket', `0 socket(..., ¦SOCK_DGRAM, IPPROTO_UDP) = 3`, UNSUPPORTED, /"SOCK_DGRAM" in socket/],
    ['a level of socket options', `${ACCEPTED}+0 setsockopt(4, ¦SOL_IP, IP_TOS, [0x28], 4) = 0`, UNSUPPORTED, /"SOL_IP" in setsockopt/],
    ['a socket option', `${ACCEPTED}+0 setsockopt(4, SOL_TCP, ¦TCP_USER_TIMEOUT, [10], 4) = 0`, UNSUPPORTED, /"TCP_USER_TIMEOUT"/],
    ['an option at the wrong level', `${ACCEPTED}+0 setsockopt(4, ¦SOL_SOCKET, TCP_NODELAY, [1], 4) = 0`, UNSUPPORTED, /expected SOL_TCP for TCP_NODELAY/],
    ['an option of the wrong length', `${ACCEPTED}+0 setsockopt(4, SOL_TCP, TCP_NODELAY, [1], ¦8) = 0`, UNSUPPORTED, /expected 4/],
    ['a time to linger', `${ACCEPTED}+0 setsockopt(4, SOL_SOCKET, SO_LINGER, ¦{onoff=1, linger=5}, 8) = 0`, UNSUPPORTED, /nobody waits in close/],
    ['a field of a struct', `${ACCEPTED}+0 setsockopt(4, SOL_SOCKET, SO_LINGER, {onoff=1, time=¦0}, 8) = 0`, SYNTAX, /"time" in setsockopt/],
    ['an option that can only be asked for', `${ACCEPTED}+0 setsockopt(4, SOL_SOCKET, ¦SO_ERROR, [0], 4) = 0`, UNSUPPORTED, /can only be asked for/],
    ['a flag of fcntl', `${ACCEPTED}+0 fcntl(4, F_SETFL, ¦O_APPEND) = 0`, UNSUPPORTED, /"O_APPEND" in fcntl/],
    ['the name of an error', `${ACCEPTED}+0 read(4, ..., 9) = -1 ¦ECONNREST`, SYNTAX, /did you mean "ECONNRESET"\?/],
    ['a result that is a word', `${ACCEPTED}+0 read(4, ..., 9) = ¦nine`, SYNTAX, /expected a number, -1 with the name of an error, or \.\.\./],
    ['a TCP option', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <¦msss 1>`, UNSUPPORTED, /did you mean "mss"\?/],
    ['a word in an option to the host', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <mss 9 ¦banana>`, SYNTAX, /"banana" in mss; expected , or >/],
    ['a word in an option of the host', `${ACCEPTED}+0 > . 1:1(0) ack 1 <dss dack8=1 ¦nocks>`, SYNTAX, /did you mean "nocs"\?/],
    ['a field of an option', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <mp_fastclose ¦ckey=42>`, SYNTAX, /"ckey" in mp_fastclose; expected receiver_key/],
    ['a flag of MP_CAPABLE', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <mpcapable flags[¦flag_x] nokey>`, SYNTAX, /flag "flag_x"/],
    ['words that exclude one another', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <¦dss dack8=1 dack4=1>`, SYNTAX, /dack8 and dack4 in one dss/],
    ['a word twice', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <dss dack8=1 ¦dack8=2>`, SYNTAX, /dack8 is there twice/],
    ['a token that nobody gives', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <¦mp_join_syn address_id=1>`, SYNTAX, /mp_join_syn without token/],
    ['a variable without a value', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <mp_fastclose receiver_key=¦x>`, SYNTAX, /variable "x" has no value yet/],
    ['a function', `${ACCEPTED}+0 < . 1:1(0) ack 1 win 9 <mp_join_syn token=¦md5(1)>`, UNSUPPORTED, /function "md5"/],
    ['an address', `${ACCEPTED}+0 < addr[¦caddr7] > addr[saddr0] S 0:0(0)`, SYNTAX, /"caddr7" is not an address/],
    ['an address of the other family', `${ACCEPTED}+0 < addr[¦2001:db8::9] > addr[saddr0] S 0:0(0)`, SYNTAX, /expected IPv4/],
    ['ECN of the IP header', `${ACCEPTED}+0 < ¦[ect0] . 1:1(0) ack 1`, UNSUPPORTED, /"\[ect0\]" in a packet/],
    ['ICMP', `${ACCEPTED}+0 < ¦icmp unreachable frag_needed mtu 900 [1:1001(1000)]`, UNSUPPORTED, /"icmp" in a packet/],
    ['a word behind a packet', `${ACCEPTED}+0 < . 1:1(0) ack 1 ¦wind 9`, SYNTAX, /"wind 9"; expected ack, win, urg, <options>/],
    ['flags that are none', `${ACCEPTED}+0 < ¦Q 1:1(0)`, SYNTAX, /expected flags/],
    ['numbers that do not add up', `${ACCEPTED}+0 < . ¦1:5(9)`, SYNTAX, /the end must be start plus length/],
    ['a window that does not fit', `${ACCEPTED}+0 < . 1:1(0) ack 1 win ¦70000`, SYNTAX, /win 70000; expected 0 to 65535/],
    ['a range where nothing waits', `${ACCEPTED}¦+0...0.2 < . 1:1(0)`, SYNTAX, /a range with \.\.\.; expected it before a system call/],
    ['a range that ends before it begins', `${ACCEPTED}+0.2~¦0.1 > . 1:1(0)`, SYNTAX, /ends before it begins/],
    ['a time that has gone by', `${ACCEPTED}¦0.001 < . 1:1(0) ack 1`, SYNTAX, /0\.001000 is before the event above, at 0\.010000/],
    ['a comment without its end', `${ACCEPTED}¦/* +0 read(4, ..., 9) = 0`, SYNTAX, /expected a time/],
    ['a script without events', `// nothing\n--mtu=900\n¦`, SYNTAX, /expected an event/],
  ])('%s', (_what, marked, code, message) => {
    const above = marked.slice(0, marked.indexOf('¦')).split('\n');
    const place = { line: above.length, column: above.at(-1)!.length + 1 };
    const seen = failure(marked.replace('¦', ''));
    expect(seen).toEqual({ code, ...place, message: expect.stringMatching(message) as string });
    expect(seen.message.startsWith(`line ${place.line}:${place.column}: `)).toBe(true);
  });

  it('places are right below comments, on continued lines and behind tabs', () => {
    const source = `/* a comment\n   of two lines */\n# another\n${ACCEPTED}+0 < . 1:1(0) // here\n\tack 1 win 9\n\t<mss 9, banana>`;
    expect(failure(source)).toMatchObject({ line: NEXT + 3 + 2, column: 10 });
  });

  it('a strange word is refused wherever it stands in any of our own scripts', () => {
    for (const { name, source } of ownScripts()) {
      const code = source.replace(/\/\/[^\n]*/g, (comment) => ' '.repeat(comment.length));
      for (const { index } of code.matchAll(/[\w.]+|[^\s\w]/g)) {
        const { passed, failure: reason } = runDrill(name, `${source.slice(0, index)} banana ${source.slice(index)}`);
        expect([passed, reason?.code.slice(0, 7)], `${name}, at ${source.slice(index, index + 30)}`).toEqual([false, 'SCRIPT_']);
      }
    }
  }, 60_000);
});

describe('what is understood is compared', () => {
  it('another number in any packet that is expected fails our own scripts', () => {
    let mutants = 0;
    for (const { name, source } of ownScripts()) {
      // Options and their values may stand on lines of their own.
      for (const packet of source.matchAll(/^[+*\d.~]+\s+>[^\n]*(?:\n[ \t]+[^\n]*)*/gm)) {
        const from = packet.index + packet[0].indexOf('>') + 1;
        for (const { index, 0: digits } of source.slice(from, packet.index + packet[0].length).matchAll(/(?<![\w.])\d+|(?<=\bv)\d/g)) {
          const at = from + index;
          // The host's clock, and names of addresses.
          if (/val\s+$|addr\[[^\]]*$/.test(source.slice(from, at))) continue;
          mutants++;
          const { passed } = runDrill(name, source.slice(0, at) + (Number(digits) + 1) + source.slice(at + digits.length));
          expect(passed, `${name}, ${source.slice(at - 20, at + 20)}`).toBe(false);
        }
      }
    }
    expect(mutants).toBeGreaterThan(1000);
  }, 60_000);

  it.each([
    ['a flag', '+0 write(4, ..., 10) = 10\n+0 > PE. 1:11(10) ack 1', /flags/],
    ['the urgent pointer', '+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 urg 5', /urgent pointer is 0, expected 5/],
    ['the error of a socket', '+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]) = 0', /SO_ERROR is 0, expected ECONNREFUSED/],
    ['a socket option', '+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0', /TCP_NODELAY is 0, expected 1/],
    ['that a shutdown of reading sends nothing', '+0 shutdown(4, SHUT_RD) = 0\n+0 > F. 1:1(0) ack 1', /nothing was sent/],
    ['the flags of a descriptor', '+0 fcntl(4, F_GETFL) = 0x802', /fcntl returned 2, expected 2050/],
  ])('%s', (_what, lines, message) => {
    expect(failure(`${ACCEPTED}${lines}`).message).toMatch(message);
  });

  it('the MTU of a script is the host’s', () => {
    expect(failure(`--mtu=900\n${ACCEPTED}`).message).toMatch(/mss: value is 860, expected 1460/);
    expect(runDrill('inline', `--mtu=900\n${ACCEPTED.replaceAll('> S. 0:0(0) ack 1 <mss 1460>', '> S. 0:0(0) ack 1 <mss 860>')}`).failure).toBeNull();
  });
});

it('no text makes it throw', () => {
  const scripts = ownScripts();
  const piece = fc.oneof(
    fc.constantFrom(...'0123456789.+-~*<>[](){}=|,:`"%#/\\ \nSFRPA_'),
    fc.string({ maxLength: 6 }),
    fc.constantFrom('4294967295', '/*', '%{', '...'),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...scripts),
      fc.array(fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), cut: fc.nat(8), put: piece }), { minLength: 1, maxLength: 4 }),
      ({ name, source }, changes) => {
        let text = source;
        for (const { at, cut, put } of changes) {
          const i = Math.floor(at * text.length);
          text = text.slice(0, i) + put + text.slice(i + cut);
        }
        const { passed, failure: reason } = runDrill(name, text);
        if (!passed) expect(reason!.line).toBeGreaterThan(0);
      },
    ),
    { numRuns: 2000 },
  );
});
