// Places the names of points so that no two overlap: tried on four sides, and left out where there is no room.

const SIDES = [
  { dx: 9, dy: -9, anchor: "start" },
  { dx: 9, dy: 15, anchor: "start" },
  { dx: -9, dy: -9, anchor: "end" },
  { dx: -9, dy: 15, anchor: "end" },
];
const ROOM = 1;

const meet = (a, b) =>
  a.left < b.right + ROOM && b.left < a.right + ROOM && a.top < b.bottom + ROOM && b.top < a.bottom + ROOM;

export function separate(figure, order) {
  const svg = figure.tagName === "svg" ? figure : figure.querySelector("svg");
  const texts = new Map(
    [...svg.querySelectorAll('[data-mark="text"] text')].map((text) => [text.textContent, text]),
  );
  const frame = svg.getBoundingClientRect();
  const points = [...svg.querySelectorAll('[data-mark="dot"] > *')].map((point) =>
    point.getBoundingClientRect(),
  );
  const placed = [];
  for (const name of order) {
    const text = texts.get(name);
    if (!text) continue;
    text.style.display = "";
    const origin = text.getAttribute("data-origin") ?? text.getAttribute("transform") ?? "";
    text.setAttribute("data-origin", origin);
    const place = SIDES.find((side) => {
      text.setAttribute("transform", `${origin} translate(${side.dx},${side.dy})`);
      text.setAttribute("text-anchor", side.anchor);
      const box = text.getBoundingClientRect();
      const inside =
        box.left >= frame.left &&
        box.right <= frame.right &&
        box.top >= frame.top &&
        box.bottom <= frame.bottom;
      return (
        inside &&
        !placed.some((other) => meet(box, other)) &&
        points.filter((point) => meet(box, point)).length === 0
      );
    });
    if (place) placed.push(text.getBoundingClientRect());
    else text.style.display = "none";
  }
}
