import type { InferenceSession, Tensor } from 'onnxruntime-web';
import { JepaError } from '../base/errors.js';
import type { HostData, HostTensor } from '../base/tensor.js';
import type { Backend } from '../graph/lower.js';
import { ELEMENT_TYPES, encodeModel, joinChunks } from '../graph/onnx.js';
import type { DType } from '../graph/tensor.js';
import { explained, inNode, loadOrt } from './ort.js';

/**
 * Sessions of one ONNX Runtime, and tensors that stay where it computes (on the device, or in a worker's memory) between
 * runs. Both are known by numbers, so that everything can lie in another thread.
 */
export interface Sessions {
  /** Opens a session; outputs named in `resident` stay where they are computed. */
  open(model: Uint8Array, resident: readonly string[]): Promise<number>;
  /** Runs a session. `resident` names the inputs that are resident tensors. */
  run(
    session: number,
    feeds: Readonly<Record<string, HostTensor<DType>>>,
    resident: Readonly<Record<string, number>>,
  ): Promise<SessionResults>;
  release(session: number): Promise<void>;
  upload(value: HostTensor<'float32'>): Promise<number>;
  download(tensor: number): Promise<HostTensor<'float32'>>;
  /** Frees resident tensors. */
  drop(tensors: readonly number[]): Promise<void>;
  close(): Promise<void>;
}

export interface SessionResults {
  readonly values: Readonly<Record<string, HostTensor<DType>>>;
  readonly resident: Readonly<Record<string, number>>;
}

/** Sessions in the thread that calls. */
export async function openSessions(backend: Backend, ortUrl?: string): Promise<Sessions> {
  const ort = await loadOrt(backend, ortUrl);
  const onDevice = backend === 'webgpu';
  const sessions = new Map<number, { session: InferenceSession; resident: ReadonlySet<string> }>();
  /** Resident tensors, with the session that made each (-1: one for copies). */
  const tensors = new Map<number, { tensor: Tensor; maker: number }>();
  /** Sessions that copy to and from the device, by rank. */
  const copies = new Map<string, Promise<InferenceSession>>();
  let next = 0;

  const create = (model: Uint8Array, resident: readonly string[]): Promise<InferenceSession> =>
    explained(() =>
      ort.InferenceSession.create(model, {
        executionProviders: [backend],
        graphOptimizationLevel: 'disabled',
        executionMode: 'sequential',
        logSeverityLevel: 4,
        ...(onDevice && { preferredOutputLocation: Object.fromEntries(resident.map((name) => [name, 'gpu-buffer'])) }),
      }),
    );
  const keep = (tensor: Tensor, maker: number): number => {
    tensors.set(next, { tensor, maker });
    return next++;
  };
  const tensorOf = ({ dtype, data, shape }: HostTensor<DType>): Tensor =>
    new ort.Tensor(dtype, data as Float32Array, shape.length === 0 ? [1] : shape);
  const known = (id: number): Tensor => {
    const kept = tensors.get(id);
    if (!kept) throw new JepaError(`runtime: there is no resident tensor ${id} (was its engine or program closed?)`);
    return kept.tensor;
  };
  // Asking a tensor on the device for its data aborts onnxruntime-node, so copies are runs of a model that does nothing.
  async function copy(direction: 'in' | 'out', tensor: Tensor): Promise<Tensor> {
    const key = `${direction} ${tensor.dims.length}`;
    let session = copies.get(key);
    if (!session) {
      session = create(identityModel(tensor.dims.length), direction === 'in' ? ['y'] : []);
      copies.set(key, session);
    }
    return (await (await session).run({ x: tensor })).y as Tensor;
  }

  if (onDevice) {
    const made = create(identityModel(1), []);
    copies.set('out 1', made);
    await made.catch((error: Error) => {
      throw new JepaError(
        `engine: no GPU was found for the webgpu backend; use ${inNode ? 'cpu' : 'wasm'} (${error.message})`,
      );
    });
  }

  return {
    open: async (model, resident) => {
      sessions.set(next, { session: await create(model, resident), resident: new Set(resident) });
      return next++;
    },
    run: async (id, feeds, residentFeeds) => {
      const opened = sessions.get(id);
      if (!opened) throw new JepaError('runtime: the program is closed');
      const inputs: Record<string, Tensor> = {};
      for (const [name, value] of Object.entries(feeds)) inputs[name] = tensorOf(value);
      for (const [name, tensor] of Object.entries(residentFeeds)) inputs[name] = known(tensor);
      const results = await explained(() => opened.session.run(inputs));
      const values: Record<string, HostTensor<DType>> = {};
      const resident: Record<string, number> = {};
      for (const [name, result] of Object.entries(results)) {
        if (opened.resident.has(name)) resident[name] = keep(result as Tensor, id);
        else values[name] = { dtype: result.type as DType, shape: result.dims, data: result.data as HostData[DType] };
      }
      return { values, resident };
    },
    release: async (id) => {
      const opened = sessions.get(id);
      sessions.delete(id);
      // Memory on the device belongs to the session that made it (freeing it later ends the process).
      for (const [made, { tensor, maker }] of onDevice ? tensors : []) {
        if (maker !== id) continue;
        tensors.set(made, { tensor: await copy('in', tensor), maker: -1 });
        tensor.dispose();
      }
      await opened?.session.release();
    },
    upload: async (value) => {
      const tensor = tensorOf({ ...value, data: value.data.slice() });
      return keep(onDevice ? await copy('in', tensor) : tensor, -1);
    },
    download: async (id) => {
      const tensor = onDevice ? await copy('out', known(id)) : known(id);
      return { dtype: 'float32', shape: tensor.dims, data: (tensor.data as Float32Array).slice() };
    },
    drop: async (ids) => {
      for (const id of ids) {
        if (onDevice) known(id).dispose();
        tensors.delete(id);
      }
    },
    close: async () => {
      if (onDevice) for (const { tensor } of tensors.values()) tensor.dispose();
      tensors.clear();
      for (const { session } of sessions.values()) await session.release();
      for (const session of copies.values()) await (await session).release();
      sessions.clear();
      copies.clear();
    },
  };
}

function identityModel(rank: number): Uint8Array {
  const value = (name: string) => ({
    name,
    elementType: ELEMENT_TYPES.float32,
    shape: Array.from({ length: rank }, (_, axis) => `d${axis}`),
  });
  const node = { name: 'copy', opType: 'Identity', domain: '', inputs: ['x'], outputs: ['y'], attributes: {} };
  return joinChunks(encodeModel({ nodes: [node], constants: [], inputs: [value('x')], outputs: [value('y')] }).model);
}
