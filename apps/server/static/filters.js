// The filter builder: a field, a condition and a value become one expression of plait's filter language.

const KEYWORDS = new Set("ALL AND ANY BETWEEN CONTAINS ESCAPE FALSE ILIKE IN IS LIKE NOT NULL OR TRUE".split(" "));
export const OWN = { id: "text", title: "text", parent: "text" }; // every document has these, undeclared

const name = (field) => (/^[A-Za-z_]\w*$/.test(field) && !KEYWORDS.has(field.toUpperCase()) ? field : `"${field.replaceAll('"', '""')}"`);
const quoted = (value) => `'${value.replaceAll("'", "''")}'`;
const many = (values, write) => values[0].split(",").map((value) => value.trim()).filter(Boolean).map(write).join(", ");

function like(before, after) {
  return (field, [value]) => {
    const escaped = value.replace(/[\\%_]/g, "\\$&");
    return `${field} ILIKE ${quoted(before + escaped + after)}${escaped === value ? "" : " ESCAPE '\\'"}`;
  };
}

const compared = (sign) => ({ values: 1, write: (field, [value], write) => `${field} ${sign} ${write(value)}` });
const EQUAL = { "is": compared("="), "is not": compared("<>") };
const MISSING = {
  "is missing": { values: 0, write: (field) => `${field} IS NULL` },
  "is there": { values: 0, write: (field) => `${field} IS NOT NULL` },
};
const LISTED = (words) => ({ values: 1, list: true, write: (field, values, write) => `${field} ${words} (${many(values, write)})` });
const BETWEEN = { values: 2, write: (field, [low, high], write) => `${field} BETWEEN ${write(low)} AND ${write(high)}` };

const TEXT = {
  ...EQUAL,
  "contains": { values: 1, write: like("%", "%") },
  "begins with": { values: 1, write: like("", "%") },
  "is one of": LISTED("IN"),
  ...MISSING,
};
const NUMBER = { ...EQUAL, "is at least": compared(">="), "is at most": compared("<="), "is above": compared(">"), "is below": compared("<"), "is between": BETWEEN, "is one of": LISTED("IN"), ...MISSING };
// A document may name a time of a day: the day ends before the next one begins, and not when it begins.
const next = (day) => new Date(Date.parse(`${day}T00:00:00Z`) + 86_400_000).toISOString().slice(0, 10);
const until = (field, day) => (day < "9999-12-31" ? `${field} < ${quoted(next(day))}` : `${field} IS NOT NULL`);
const DATE = {
  "is on": { values: 1, write: (field, [day]) => `(${field} >= ${quoted(day)} AND ${until(field, day)})` },
  "is from": compared(">="),
  "is up to": { values: 1, write: (field, [day]) => until(field, day) },
  "is between": { values: 2, write: (field, [low, high]) => `(${field} >= ${quoted(low)} AND ${until(field, high)})` },
  ...MISSING,
};
const BOOLEAN = { "is true": { values: 0, write: (field) => `${field} = TRUE` }, "is false": { values: 0, write: (field) => `${field} = FALSE` }, ...MISSING };
const LIST = { "has": compared("CONTAINS"), "has any of": LISTED("CONTAINS ANY"), "has all of": LISTED("CONTAINS ALL"), ...MISSING };

const TYPES = {
  text: { operators: TEXT, input: { type: "text" }, write: quoted },
  integer: { operators: NUMBER, input: { type: "number", step: "1" }, write: String },
  number: { operators: NUMBER, input: { type: "number", step: "any" }, write: String },
  date: { operators: DATE, input: { type: "date" }, write: quoted },
  boolean: { operators: BOOLEAN, input: { type: "text" }, write: (value) => value.toUpperCase() },
};

function kind(type) {
  const row = TYPES[type.replace("[]", "")] ?? TYPES.text;
  return type.endsWith("[]") ? { ...row, operators: LIST } : row;
}

export const operators = (type) => Object.keys(kind(type).operators);

/** Returns the attributes of the inputs that a condition needs; a list of values is written with commas, in one. */
export function inputs(type, operator) {
  const { values, list } = kind(type).operators[operator];
  const one = list ? { type: "text", placeholder: "one, another" } : kind(type).input;
  return Array.from({ length: values }, () => one);
}

export const condition = (field, type, operator, values) => kind(type).operators[operator].write(name(field), values, kind(type).write);

/** Returns one expression for which all of them hold; undefined of none. */
export function together(expressions) {
  if (expressions.length < 2) return expressions[0];
  return expressions.map((expression) => `(${expression})`).join(" AND ");
}
