"""The charts, by gnuplot where it is installed."""

import os
import shutil
import subprocess

STYLE = """set terminal svg size 800,480 font "sans,13" background "white"
set key outside right top
set grid
"""


def draw(rows, directory, log):
    drawn = {"by-connections": curves(rows), "by-workers": bars_of_workers(rows), "ping-pong": bars(rows),
             "latency": latencies(rows)}
    drawn = {name: script for name, script in drawn.items() if script}
    if not drawn:
        return
    if not shutil.which("gnuplot"):
        log("no charts: gnuplot is not installed")
        return
    for name, script in drawn.items():
        path = os.path.join(directory, name + ".svg")
        subprocess.run(["gnuplot"], input=STYLE + f'set output "{path}"\n' + script, text=True, check=True)
        log(f"{path}")


def block(points):
    return "\n".join(" ".join(str(part) for part in point) for point in points) + "\ne\n"


def lines(series, style="linespoints"):
    """A plot of {title: points}."""
    plots = ", ".join(f'"-" using 1:2 with {style} title "{title}"' for title in series)
    return f"plot {plots}\n" + "".join(block(points) for points in series.values())


def series_of(rows, case, x, y):
    found = {}
    for row in rows:
        if row["case"] == case and y in row:
            found.setdefault(row["rival"], []).append((row[x], row[y]))
    return found


def curves(rows):
    series = series_of(rows, "curve by connections", "connections", "rate")
    return series and ('set title "64-byte messages a second"\nset logscale x\nset xlabel "active connections"\n'
                       "set yrange [0:]\n" + lines(series))


def bars_of_workers(rows):
    points = [(row["rival"].split()[0], row["rate"]) for row in rows if row["case"] == "curve by workers" and "rate" in row]
    return points and ('set title "64-byte messages a second by workers"\nset xlabel "workers"\nset yrange [0:]\n'
                       "unset key\n" + lines({"messages/s": points}))


def bars(rows):
    chosen = [row for row in rows if row["case"].startswith("ping-pong") and "cpu" in row and row["rival"] != "floor"]
    names = list(dict.fromkeys(row["rival"] for row in chosen))
    series = {case: [(names.index(row["rival"]), row["cpu"]["ratio"]["median"], row["cpu"]["ratio"]["low"],
                      row["cpu"]["ratio"]["high"]) for row in chosen if row["case"] == case]
              for case in dict.fromkeys(row["case"] for row in chosen)}
    ticks = ", ".join(f'"{name}" {index}' for index, name in enumerate(names))
    return series and ('set title "CPU time a message: tcpechod as a part of each peer"\nset yrange [0:]\n'
                       f"set xtics ({ticks}) rotate by -30\nset xrange [-0.5:{len(names) - 0.5}]\nset key below\nplot "
                       + ", ".join(f'"-" using ($1+{0.1 * index}):2:3:4 with yerrorbars pt 7 title "{case}"'
                                   for index, case in enumerate(series))
                       + ', 1 with lines lc "gray" notitle\n' + "".join(block(points) for points in series.values()))


def latencies(rows):
    """The daemon's own are those of its comparison with itself."""
    found = {}
    for row in rows:
        if row["case"].startswith("latency at ") and "p99" in row:
            name = row["rival"].removesuffix(" again")
            found.setdefault(name, []).append((int(row["case"].split()[2]), row["p99"]["theirs"] / 1000))
    return found and ('set title "p99 from intended sending times"\nset xlabel "% of the best peer\'s rate"\n'
                      'set ylabel "us"\nset logscale y\n' + lines(found))
