import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, mock, test } from 'node:test';
import {
  recoverDirectory,
  replaceDirectoryAtomic,
  withFileErrors,
  writeAtomicBy,
  writeFileAtomic,
} from '../../src/base/atomic.js';
import { JepaError } from '../../src/base/errors.js';

const folder = fs.mkdtempSync(join(tmpdir(), 'jepa-atomic-'));
after(() => fs.rmSync(folder, { recursive: true }));

test('text, bytes and pieces are written, and no temporary file stays', () => {
  const path = join(folder, 'file');
  writeFileAtomic(path, 'größe');
  assert.equal(fs.readFileSync(path, 'utf8'), 'größe');
  writeFileAtomic(path, Uint8Array.of(1, 2));
  assert.deepEqual([...fs.readFileSync(path)], [1, 2]);
  writeFileAtomic(
    path,
    (function* () {
      for (let i = 0; i < 3; i++) yield Uint8Array.of(i);
    })(),
  );
  assert.deepEqual([...fs.readFileSync(path)], [0, 1, 2]);
  assert.deepEqual(fs.readdirSync(folder), ['file']);
});

test('a failure half-way keeps the old file', () => {
  const path = join(folder, 'kept');
  writeFileAtomic(path, 'old');
  const failing = function* () {
    yield Uint8Array.of(1);
    throw new JepaError('no more');
  };
  assert.throws(() => writeFileAtomic(path, failing()), new JepaError('no more'));
  assert.equal(fs.readFileSync(path, 'utf8'), 'old');
  assert.ok(!fs.readdirSync(folder).some((name) => name.endsWith('.tmp')));
});

test('failures of the file system are one line with the fix', () => {
  const failWith = (code: string) => {
    const write = mock.method(fs, 'writeSync', () => {
      throw Object.assign(new Error(`${code}: as the system says`), { code });
    });
    syncBuiltinESMExports();
    try {
      assert.throws(
        () => writeFileAtomic(join(folder, 'full'), 'x'),
        (error: unknown) =>
          error instanceof JepaError &&
          error.message.startsWith(`cannot write ${join(folder, 'full')}: `) &&
          REASON[code].test(error.message),
      );
    } finally {
      write.mock.restore();
      syncBuiltinESMExports();
    }
    assert.ok(!fs.existsSync(join(folder, 'full')));
    assert.ok(!fs.readdirSync(folder).some((name) => name.endsWith('.tmp')));
  };
  const REASON: Record<string, RegExp> = {
    ENOSPC: /the disk is full/,
    EDQUOT: /quota/,
    EACCES: /no permission/,
    EROFS: /read-only/,
    EIO: /EIO: as the system says/,
  };
  for (const code of Object.keys(REASON)) failWith(code);
  assert.throws(
    () => writeFileAtomic(join(folder, 'absent', 'x'), ''),
    /cannot write .*absent.x: its folder does not exist; make it, or write elsewhere/,
  );
  assert.throws(() => withFileErrors('read', '/a', () => fs.readFileSync(folder)), /cannot read \/a: it is a folder/);
});

test('a device that is full says so', { skip: fs.existsSync('/dev/full') ? false : 'needs /dev/full' }, () => {
  const fd = fs.openSync('/dev/full', 'w');
  assert.throws(
    () => withFileErrors('write', '/dev/full', () => fs.writeSync(fd, 'x')),
    new JepaError('cannot write /dev/full: the disk is full; free some space or write elsewhere'),
  );
  fs.closeSync(fd);
});

function makeFolder(name: string, content: string): string {
  const path = join(folder, name);
  fs.mkdirSync(path, { recursive: true });
  fs.writeFileSync(join(path, 'content'), content);
  return path;
}

test('folders are replaced, also when there is none yet', () => {
  const final = join(folder, 'checkpoint');
  for (const content of ['one', 'two', 'three']) {
    replaceDirectoryAtomic(makeFolder('next', content), final);
    assert.equal(fs.readFileSync(join(final, 'content'), 'utf8'), content);
    assert.ok(!fs.existsSync(join(folder, 'next')));
  }
  assert.throws(
    () => replaceDirectoryAtomic(join(folder, 'nothing'), final),
    /cannot replace .*checkpoint: it does not exist/,
  );
  assert.equal(fs.readFileSync(join(final, 'content'), 'utf8'), 'three');
});

test('an exchange of folders that was killed at any moment can be recovered', async () => {
  const script = `
    import { mkdirSync, writeFileSync, rmSync } from 'node:fs';
    import { replaceDirectoryAtomic } from ${JSON.stringify(new URL('../../src/base/atomic.js', import.meta.url).href)};
    for (let i = 0; ; i++) {
      rmSync('temporary', { recursive: true, force: true });
      mkdirSync('temporary');
      writeFileSync('temporary/a', String(i));
      writeFileSync('temporary/b', String(i));
      replaceDirectoryAtomic('temporary', 'final');
      if (i === 0) console.log('started');
    }`;
  const cwd = join(folder, 'killed');
  fs.mkdirSync(cwd);
  let previous = -1;
  for (let round = 0; round < 6; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      cwd,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await new Promise((resolve) => setTimeout(resolve, 5 + 7 * round));
    child.kill('SIGKILL');
    await ended;
    recoverDirectory(join(cwd, 'final'));
    const [a, b] = ['a', 'b'].map((name) => fs.readFileSync(join(cwd, 'final', name), 'utf8'));
    assert.equal(a, b);
    assert.ok(Number(a) >= 0);
    previous = Math.max(previous, Number(a));
    assert.deepEqual(
      fs.readdirSync(cwd).filter((name) => name.includes('replaced')),
      [],
    );
  }
  assert.ok(previous > 0, 'several exchanges happened');
});

test('a folder left aside is brought back, or removed where the new one is in place', () => {
  const final = join(folder, 'aside');
  makeFolder('.aside.replaced', 'old');
  recoverDirectory(final);
  assert.equal(fs.readFileSync(join(final, 'content'), 'utf8'), 'old');
  makeFolder('.aside.replaced', 'older');
  recoverDirectory(final);
  assert.equal(fs.readFileSync(join(final, 'content'), 'utf8'), 'old');
  assert.ok(!fs.existsSync(join(folder, '.aside.replaced')));
});

test('a process that ends in the middle leaves no temporary file', () => {
  const own = fs.mkdtempSync(join(folder, 'ended-'));
  const atomic = JSON.stringify(new URL('../../src/base/atomic.js', import.meta.url));
  const program = `import(${atomic}).then(({ openFileAtomic }) => {
    openFileAtomic('half').write(Uint8Array.of(1));
    console.log(require('fs').readdirSync('.').length);
    process.exit(130);
  })`;
  const { status, stdout } = spawnSync(process.execPath, ['--eval', program], { cwd: own, encoding: 'utf8' });
  assert.deepEqual([status, stdout], [130, '1\n']);
  assert.deepEqual(fs.readdirSync(own), []);
});

test('a library that writes by name has its file put in place when it is whole', () => {
  const own = fs.mkdtempSync(join(folder, 'named-'));
  const path = join(own, 'file');
  writeAtomicBy(path, (temporary) => {
    fs.writeFileSync(temporary, 'new');
    assert.equal(fs.existsSync(path), false);
  });
  assert.throws(
    () =>
      writeAtomicBy(path, () => {
        throw Object.assign(new Error(), { code: 'ENOSPC' });
      }),
    { name: 'JepaError', message: `cannot write ${path}: the disk is full; free some space or write elsewhere` },
  );
  assert.deepEqual([fs.readdirSync(own), fs.readFileSync(path, 'utf8')], [['file'], 'new']);
  assert.throws(() => writeAtomicBy(join(own, 'no', 'file'), () => assert.fail('not to be called')), {
    message: /its folder does not exist/,
  });
});
