/** Our stack on packet sockets: IPv4 and IPv6 on Ethernet, against the kernel's server; ARP and neighbour discovery are ours. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { command, Namespace } from '@subflow/link';
import { connect, createServer, openStack } from '@subflow/net';
import type { StackBackend } from '@subflow/net';
import { describeSystem } from '../interop/require-system.ts';

describeSystem('the stack backend on packet sockets', () => {
  let namespace: Namespace;
  let stack: StackBackend;
  const devices = ['a', 'b'].map((letter) => `sfq${process.pid % 10000}${letter}`);

  beforeAll(() => {
    namespace = new Namespace('packet');
    namespace.sysctl('net.ipv4.conf.all.rp_filter', 0);
    namespace.sysctl('net.ipv4.conf.default.rp_filter', 0);
    namespace.sysctl('net.ipv4.tcp_congestion_control', 'reno');
    namespace.mptcpLimits(8, 8);
    devices.forEach((device, i) => {
      command('ip', ['link', 'add', device, 'type', 'veth', 'peer', 'name', `eth${i}`, 'netns', namespace.name]);
      command('ip', ['link', 'set', device, 'up']);
      namespace.ip('address', 'add', `192.0.2.${16 * i + 2}/28`, 'dev', `eth${i}`);
      namespace.ip('address', 'add', `2001:db8:${i}::2/64`, 'dev', `eth${i}`, 'nodad');
      namespace.ip('link', 'set', `eth${i}`, 'up');
    });
    stack = openStack({
      interfaces: devices.map((name, i) => ({
        name,
        port: 'packet',
        addresses: [`192.0.2.${16 * i + 1}/28`, `2001:db8:${i}::1/64`],
        gateway: [`192.0.2.${16 * i + 2}`, `2001:db8:${i}::2`],
      })),
    });
  });
  afterAll(() => {
    stack?.stop();
    namespace?.remove();
  });

  it.each([
    ['IPv4', '192.0.2.2'],
    ['IPv6', '2001:db8:0::2'],
  ])(
    'downloads from the kernel over %s and joins from the second interface',
    async (_name, host) => {
      const port = host.includes(':') ? 7002 : 7001;
      const script = `const {createServer}=require('net');createServer(s=>{s.end(Buffer.alloc(5e6,'kernel '))}).listen(${port},'::',()=>console.log('up'))`;
      const child = namespace.start('mptcpize', ['run', process.execPath, '-e', script]);
      await once(child.stdout!, 'data');
      const socket = connect({ host, port, backend: stack });
      const hash = createHash('sha256');
      let joined = 0;
      socket.multipath!.on('subflow-established', () => joined++);
      for await (const chunk of socket) hash.update(chunk as Buffer);
      expect(hash.digest('hex')).toBe(createHash('sha256').update(Buffer.alloc(5e6, 'kernel ')).digest('hex'));
      expect(socket.multipath!.info()).toMatchObject({ multipath: true, version: 1 });
      expect(joined).toBeGreaterThanOrEqual(2);
      child.kill();
    },
    20_000,
  );

  it('serves a kernel client that found us by ARP', async () => {
    const server = createServer({ backend: stack }, (socket) => void socket.pipe(socket));
    server.listen(7003);
    await once(server, 'listening');
    const script = `const s=require('net').connect(7003,'192.0.2.1',()=>s.end('from the kernel'));s.on('data',d=>process.stdout.write(d))`;
    const child = namespace.start('mptcpize', ['run', process.execPath, '-e', script]);
    let got = '';
    child.stdout!.on('data', (chunk: Buffer) => (got += String(chunk)));
    await once(child, 'exit');
    expect(got).toBe('from the kernel');
    server.close();
  }, 20_000);

  it('an interface that is not there is NO_DEVICE', () => {
    expect(() => openStack({ interfaces: [{ name: 'no-such0', port: 'packet', addresses: ['192.0.2.1/24'] }] })).toThrow(
      expect.objectContaining({ code: 'NO_DEVICE' }),
    );
  });
});
