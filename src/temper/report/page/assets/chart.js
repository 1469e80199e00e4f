// Scatter plot: two menus select the axes of the chart that #cells specifies.

const source = document.getElementById("cells");
if (source) {
  const { metrics, spec } = JSON.parse(source.textContent);
  const menus = { x: document.getElementById("x-axis"), y: document.getElementById("y-axis") };
  const quantity = (field, title) => ({ field, title, type: "quantitative", scale: { zero: false } });

  async function draw() {
    const { x, y } = Object.fromEntries(Object.entries(menus).map(([axis, menu]) => [axis, metrics[menu.selectedIndex]]));
    const [horizontal, vertical, points] = spec.layer.map((layer) => layer.encoding);
    Object.assign(horizontal, { x: quantity(`${x.field}low`, x.label), x2: { field: `${x.field}high` }, y: quantity(y.field, y.label) });
    Object.assign(vertical, { x: quantity(x.field, x.label), y: quantity(`${y.field}low`, y.label), y2: { field: `${y.field}high` } });
    Object.assign(points, { x: quantity(x.field, x.label), y: quantity(y.field, y.label) });
    points.tooltip = ["attack", "penalty"].map((field) => ({ field, type: "nominal" }));
    points.tooltip.push({ field: `${x.field}text`, title: x.label }, { field: `${y.field}text`, title: y.label }, { field: "seeds" });
    await window.vegaEmbed("#chart", spec, { actions: false, renderer: "svg" });
    document.getElementById("chart").dataset.drawn = `${x.label} / ${y.label}`;
  }

  for (const [position, menu] of Object.values(menus).entries()) {
    menu.append(...metrics.map(({ label }) => new Option(label)));
    menu.selectedIndex = position;
    menu.addEventListener("change", draw);
  }
  await draw();
}
