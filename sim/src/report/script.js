const choose = document.getElementById("choose");
if (choose) choose.onchange = () => document.querySelectorAll(".diagram").forEach(d => d.hidden = d.id !== "story-" + choose.value);
document.querySelectorAll(".sortable").forEach(table => {
  const head = table.rows[0];
  [...head.cells].forEach((cell, n) => cell.onclick = () => {
    const key = row => { const t = row.cells[n].textContent, f = parseFloat(t);
      const unit = { kB: 1e3, MB: 1e6, GB: 1e9 }[t.split(" ")[1]] || 1; return isNaN(f) ? t : f * unit; };
    const down = cell.dataset.down !== "1"; cell.dataset.down = down ? "1" : "0";
    [...table.rows].slice(1).sort((a, b) => { const x = key(a), y = key(b), c = x < y ? -1 : x > y ? 1 : 0; return down ? -c : c; })
      .forEach(row => head.parentNode.append(row));
  });
});
