import { JepaError } from '../../base/errors.js';
import { createRandom, type Random } from '../../base/random.js';
import { checkIndex, type SampleReader } from '../dataset.js';
import type { TextDataset, TextSample } from '../text/dataset.js';
import { balanced } from './balanced.js';

/**
 * Texts of a small grammar whose meaning is known. Some factors show in the words alone (topic, tense), others only in how words
 * stand together: who does something to whom, whether an opinion is good (a good word may be denied), what came first. Each
 * text says the same in one of many wordings; `code` says it in one formal way.
 */

interface Topic {
  readonly name: string;
  readonly places: readonly string[];
  readonly things: readonly string[];
}

const TOPICS: readonly Topic[] = [
  { name: 'kitchen', places: ['in the kitchen', 'at the stove'], things: ['soup', 'bread', 'recipe', 'dinner'] },
  { name: 'garden', places: ['in the garden', 'under the trees'], things: ['roses', 'harvest', 'fence', 'pond'] },
  { name: 'music', places: ['on the stage', 'in the concert hall'], things: ['song', 'concert', 'violin', 'choir'] },
  { name: 'sea', places: ['on the boat', 'by the harbour'], things: ['storm', 'sails', 'voyage', 'nets'] },
  { name: 'school', places: ['in the classroom', 'at the library'], things: ['lesson', 'exam', 'essay', 'homework'] },
  { name: 'sport', places: ['on the field', 'in the stadium'], things: ['match', 'race', 'training', 'final'] },
];

/** One, several. Everybody can be found everywhere. */
const PEOPLE: readonly (readonly [string, string])[] = [
  ['doctor', 'doctors'],
  ['farmer', 'farmers'],
  ['teacher', 'teachers'],
  ['painter', 'painters'],
  ['sailor', 'sailors'],
  ['singer', 'singers'],
  ['child', 'children'],
  ['neighbour', 'neighbours'],
];

/** A verb by its words of equal meaning: base form and past participle, which is the past too. */
interface Verb {
  readonly name: string;
  readonly words: readonly (readonly [string, string])[];
}

const verb = (name: string, ...words: (readonly [string, string])[]): Verb => ({ name, words });

/** What is told first of all. */
const VERBS: readonly Verb[] = [
  verb('help', ['help', 'helped'], ['assist', 'assisted']),
  verb('thank', ['thank', 'thanked'], ['praise', 'praised']),
  verb('watch', ['watch', 'watched'], ['observe', 'observed']),
  verb('call', ['call', 'called'], ['phone', 'phoned']),
];

/** What happens before or after it; other words, so that the two cannot be taken for each other. */
const SECOND_VERBS: readonly Verb[] = [
  verb('follow', ['follow', 'followed'], ['chase', 'chased']),
  verb('visit', ['visit', 'visited'], ['greet', 'greeted']),
  verb('invite', ['invite', 'invited'], ['welcome', 'welcomed']),
  verb('guide', ['guide', 'guided'], ['lead', 'led']),
];

const OPINIONS = {
  good: ['good', 'great', 'lovely', 'pleasant'],
  bad: ['bad', 'awful', 'boring', 'dull'],
} as const;

const TENSES = ['past', 'present', 'future'] as const;

/** What a text says. All are numbers of lists above. */
interface Meaning {
  readonly topic: number;
  readonly tense: number;
  readonly agent: number;
  readonly patient: number;
  /** 0: one, 1: several. */
  readonly number: number;
  readonly patientNumber: number;
  readonly verb: number;
  /** What the agent does besides. */
  readonly second: number;
  /** 0 where the verb happens before the second one. */
  readonly order: number;
  /** 1: a good opinion. */
  readonly sentiment: number;
  readonly place: number;
  readonly thing: number;
}

export interface GrammarOptions {
  readonly count: number;
  readonly seed?: number;
  /** What `labels` are; the topic by default. */
  readonly label?: GrammarFactor;
  /** What `code` is: the meaning in a formal language (default), or another wording of the text. */
  readonly code?: 'formal' | 'paraphrase';
}

export type GrammarFactor = 'topic' | 'tense' | 'number' | 'agent' | 'verb' | 'order' | 'sentiment';

const CLASSES: Readonly<Record<GrammarFactor, readonly string[]>> = {
  topic: TOPICS.map(({ name }) => name),
  tense: TENSES,
  number: ['one', 'several'],
  agent: PEOPLE.map(([one]) => one),
  verb: VERBS.map(({ name }) => name),
  order: ['before', 'after'],
  sentiment: ['bad', 'good'],
};

export const GRAMMAR_FACTORS = Object.keys(CLASSES) as readonly GrammarFactor[];

/** `count` texts; every value of every factor occurs as often (counting in whole rounds), whatever the others are. */
export function grammarTexts(options: GrammarOptions): TextDataset {
  const { count, seed = 0, label = 'topic' } = options;
  if (!Number.isInteger(count) || count < 1)
    throw new JepaError(`grammar: count must be a positive whole number, not ${count}`);
  if (!(label in CLASSES))
    throw new JepaError(`grammar: there is no factor '${label}'; there are ${GRAMMAR_FACTORS.join(', ')}`);
  const meanings = Array.from({ length: count }, (_, i) => meaningOf(seed, i));
  const attributes = Object.fromEntries(
    GRAMMAR_FACTORS.map((factor) => [factor, Int32Array.from(meanings, (meaning) => meaning[factor])]),
  );
  const name = 'grammar';
  return {
    name,
    modality: 'text',
    length: count,
    labels: attributes[label],
    classNames: CLASSES[label],
    attributes,
    async read(index) {
      checkIndex({ name, length: count, modality: 'text' }, index);
      return sampleOf(options, index);
    },
    source: { kind: 'module', module: import.meta.url, options },
  };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<TextSample> => ({
  read: (index) => sampleOf(options as GrammarOptions, index),
});

function sampleOf({ seed = 0, code = 'formal' }: GrammarOptions, index: number): TextSample {
  const meaning = meaningOf(seed, index);
  const wording = (which: string): string => worded(meaning, createRandom(seed, 'grammar', index, which));
  return { text: wording('text'), code: code === 'formal' ? formal(meaning) : wording('paraphrase') };
}

function meaningOf(seed: number, index: number): Meaning {
  const draws = createRandom(seed, 'grammar', index, 'meaning');
  const of = (factor: GrammarFactor): number => balanced(seed, factor, index, CLASSES[factor].length);
  /** Any but one. */
  const other = (count: number, than: number): number => (than + 1 + draws.integer(count - 1)) % count;
  const [topic, agent] = [of('topic'), of('agent')];
  return {
    topic,
    tense: of('tense'),
    agent,
    patient: other(PEOPLE.length, agent),
    number: of('number'),
    patientNumber: draws.integer(2),
    verb: of('verb'),
    second: draws.integer(SECOND_VERBS.length),
    order: of('order'),
    sentiment: of('sentiment'),
    place: draws.integer(TOPICS[topic].places.length),
    thing: draws.integer(TOPICS[topic].things.length),
  };
}

const pick = <T>(list: readonly T[], draws: Random): T => list[draws.integer(list.length)];

/** One wording: two clauses in one of four orders, the place in one of two positions, and an opinion. */
function worded(m: Meaning, draws: Random): string {
  const agent = `${pick(['the', 'some'], draws)} ${PEOPLE[m.agent][m.number]}`;
  const patient = `the ${PEOPLE[m.patient][m.patientNumber]}`;
  const place = TOPICS[m.topic].places[m.place];
  const clause = (by: string, { words }: Verb): string => {
    const [base, participle] = pick(words, draws);
    const active = {
      past: participle,
      present: m.number ? base : `${base}s`.replace(/(ch|sh)s$/, '$1es'),
      future: `will ${base}`,
    }[TENSES[m.tense]];
    const passive = {
      past: m.patientNumber ? 'were' : 'was',
      present: m.patientNumber ? 'are' : 'is',
      future: 'will be',
    }[TENSES[m.tense]];
    return draws.uniform() < 0.5 ? `${by} ${active} ${patient}` : `${patient} ${passive} ${participle} by ${by}`;
  };
  const first = clause(agent, VERBS[m.verb]);
  const second = clause(agent.replace(/^some/, 'the'), SECOND_VERBS[m.second]);
  const [early, late] = m.order === 0 ? [first, second] : [second, first];
  const both = pick(
    [`${early} before ${late}`, `before ${late}, ${early}`, `after ${early}, ${late}`, `${late} after ${early}`],
    draws,
  );
  const story = draws.uniform() < 0.5 ? `${place}, ${both}.` : `${both} ${place}.`;
  const denied = draws.uniform() < 0.5;
  const word = pick(OPINIONS[(m.sentiment === 1) === denied ? 'bad' : 'good'], draws);
  const thing = TOPICS[m.topic].things[m.thing];
  const opinion = pick(denied ? NOT : IS, draws)
    .replace('{thing}', thing)
    .replace('{word}', word);
  return draws.uniform() < 0.5 ? `${story} ${opinion}` : `${opinion} ${story}`;
}

const IS = ['they found the {thing} {word}.', 'the {thing} seemed {word}.', 'everyone called the {thing} {word}.'];
const NOT = [
  'they found the {thing} not {word}.',
  'the {thing} never seemed {word}.',
  'nobody called the {thing} {word}.',
];

/** The meaning in one fixed form. */
function formal(m: Meaning): string {
  const person = (who: number, several: number): string => `${several ? 'many ' : ''}${PEOPLE[who][0]}`;
  const [agent, patient] = [person(m.agent, m.number), person(m.patient, m.patientNumber)];
  const acts = [VERBS[m.verb], SECOND_VERBS[m.second]].map((act) => act.name);
  if (m.order === 1) acts.reverse();
  const { name, things, places } = TOPICS[m.topic];
  return `${TENSES[m.tense]}: ${acts.join(' < ')} (${agent}, ${patient}) @ ${name} ${places[m.place].split(' ').at(-1)}; ${things[m.thing]} ${m.sentiment ? '+' : '-'}`;
}
