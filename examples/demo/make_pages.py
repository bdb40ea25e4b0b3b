"""Draws the demo's page images: twelve into pages/, four to ask with into questions/. All content is made up.

    ../../target/infinity-lite/venv/bin/python make_pages.py    # Pillow 13.0.0; its own font, no randomness

The same Pillow gives the same bytes. Pages are 640 x 800 pixels, palette PNGs of 6 to 37 KB.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 640, 800
INK, GREY, PALE = "#1c2430", "#6b7480", "#dfe4ea"
BLUE, RED, GREEN, AMBER = "#2b6cb0", "#c53030", "#2f855a", "#d69e2e"


class Page:
    """A sheet with the few shapes that the pages are made of. Coordinates are pixels from the top left."""

    def __init__(self, background: str = "white") -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), background)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: int = 20, colour: str = INK, anchor: str = "la") -> None:
        self.draw.text((x, y), text.replace(" ", "  "), colour, ImageFont.load_default(size), anchor, spacing=10)

    def title(self, text: str, colour: str = INK) -> None:
        self.text(40, 40, text, 32, colour)
        self.draw.line((40, 88, WIDTH - 40, 88), colour, 3)

    def lines(self, x: float, y: float, lines: list[str], size: int = 20, step: int = 36) -> None:
        for number, line in enumerate(lines):
            self.text(x, y + number * step, line, size)

    def table(self, y: float, columns: list[int], rows: list[list[str]], step: int = 44, head: str = PALE) -> None:
        self.draw.rectangle((40, y, WIDTH - 40, y + step), head)
        for number, row in enumerate(rows):
            top = y + number * step
            for x, cell in zip(columns, row, strict=True):
                self.text(x, top + step / 2, cell, 19, anchor="lm")
            self.draw.line((40, top + step, WIDTH - 40, top + step), GREY, 1)

    def box(self, x: float, y: float, text: str, colour: str, width: int = 220, height: int = 64) -> None:
        """A box with its text, centred on (x, y)."""
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self.draw.rounded_rectangle(corners, 10, "white", colour, 3)
        self.text(x, y, text, 20, anchor="mm")

    def arrow(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """A line that ends in a head; straight down or straight across."""
        self.draw.line((x, y, to_x, to_y), GREY, 3)
        if to_y > y:
            self.draw.polygon(((to_x, to_y), (to_x - 8, to_y - 14), (to_x + 8, to_y - 14)), GREY)
        else:
            self.draw.polygon(((to_x, to_y), (to_x - 14, to_y - 8), (to_x - 14, to_y + 8)), GREY)


def invoice(seller: str, number: str, buyer: str, rows: list[list[str]], total: str, colour: str) -> Page:
    page = Page()
    page.title(f"INVOICE {number}", colour)
    page.lines(40, 110, [seller, f"Bill to: {buyer}"])
    page.table(210, [56, 320, 400, 510], [["Item", "Qty", "Price", "Total"], *rows])
    page.text(600, 240 + 44 * (len(rows) + 1), f"Amount due: {total}", 24, colour, "ra")
    page.text(40, 720, "Payable within 14 days by bank transfer", 18, GREY)
    return page


def bar_chart(title: str, unit: str, bars: list[tuple[str, float]], colours: list[str]) -> Page:
    page = Page()
    page.title(title)
    page.text(40, 104, unit, 18, GREY)
    floor, tallest, step = 640, max(value for _, value in bars), 540 // len(bars)
    for line in range(5):
        page.draw.line((60, floor - line * 110, 600, floor - line * 110), PALE, 2)
    for number, (name, value) in enumerate(bars):
        left, top = 80 + number * step, floor - 440 * value / tallest
        page.draw.rectangle((left, top, left + step * 0.6, floor), colours[number % len(colours)])
        page.text(left + step * 0.3, top - 8, f"{value:g}", 20, anchor="mb")
        page.text(left + step * 0.3, floor + 14, name, 20, anchor="ma")
    page.draw.line((60, floor, 600, floor), INK, 3)
    return page


def timetable(title: str, note: str, rows: list[list[str]], colour: str) -> Page:
    page = Page()
    page.title(title, colour)
    page.table(120, [56, 270, 370, 480], rows, 52, head=PALE)
    page.text(40, 720, note, 18, GREY)
    return page


def slide() -> Page:
    page = Page("#12304f")
    page.text(50, 90, "Why bees matter", 44, "#ffd166")
    for number, line in enumerate(
        [
            "They pollinate a third of our crops",
            "Wild bees need flowering strips",
            "Pesticides weaken the hive",
            "Plant clover, not gravel",
        ]
    ):
        page.draw.ellipse((50, 224 + number * 90, 66, 240 + number * 90), "#ffd166")
        page.text(86, 218 + number * 90, line, 26, "white")
    page.text(50, 730, "Beekeepers' evening, slide 4 of 12", 18, "#9fb3c8")
    return page


def nutrition() -> Page:
    page = Page()
    page.draw.rectangle((90, 60, 550, 740), None, INK, 4)
    page.text(110, 80, "Nutrition facts", 40)
    page.text(110, 140, "Oat and honey muesli bar, 40 g", 20, GREY)
    page.draw.rectangle((110, 180, 530, 192), INK)
    rows = [
        ("Energy", "172 kcal"),
        ("Fat", "6.1 g"),
        ("Saturated fat", "1.2 g"),
        ("Carbohydrate", "25 g"),
        ("Sugar", "9.8 g"),
    ]
    rows += [("Fibre", "3.0 g"), ("Protein", "3.9 g"), ("Salt", "0.15 g")]
    for number, (name, amount) in enumerate(rows):
        page.text(110, 214 + number * 58, name, 24)
        page.text(530, 214 + number * 58, amount, 24, anchor="ra")
        page.draw.line((110, 258 + number * 58, 530, 258 + number * 58), GREY, 1)
    return page


def flow_chart() -> Page:
    page = Page()
    page.title("Returning a parcel")
    steps = ["Customer reports", "Print the label", "Parcel arrives", "Inspect the goods", "Refund the money"]
    for number, step in enumerate(steps):
        y = 160 + number * 125
        page.box(240, y, step, BLUE, 240)
        if number + 1 < len(steps):
            page.arrow(240, y + 32, 240, y + 93)
    page.box(520, 535, "Reject claim", RED, 160)
    page.arrow(360, 535, 440, 535)
    page.text(398, 514, "damaged", 15, GREY, "mm")
    return page


def weather() -> Page:
    page = Page()
    page.title("Mean temperature in Oslo")
    page.text(40, 104, "degrees Celsius by month", 18, GREY)
    months = ["Jan", "Mar", "May", "Jul", "Sep", "Nov"]
    values = [-4, 0, 11, 18, 12, 1]
    points = [(100 + number * 96, 560 - value * 20) for number, value in enumerate(values)]
    for mark in (0, 10, 20):
        page.draw.line((80, 560 - mark * 20, 600, 560 - mark * 20), PALE, 2)
        page.text(70, 560 - mark * 20, str(mark), 18, anchor="rm")
    page.draw.line(points, RED, 4)
    for (x, y), month in zip(points, months, strict=True):
        page.draw.ellipse((x - 7, y - 7, x + 7, y + 7), RED)
        page.text(x, 680, month, 20, anchor="ma")
    return page


def floor_plan() -> Page:
    page = Page()
    page.title("Ground floor, house 12")
    rooms = [(60, 130, 340, 400, "Kitchen", "14 sqm"), (340, 130, 580, 400, "Bedroom", "12 sqm")]
    rooms += [
        (60, 400, 400, 690, "Living room", "24 sqm"),
        (400, 400, 580, 550, "Bath", "5 sqm"),
        (400, 550, 580, 690, "Hall", "6 sqm"),
    ]
    for left, top, right, bottom, name, area in rooms:
        page.draw.rectangle((left, top, right, bottom), None, INK, 6)
        page.text((left + right) / 2, (top + bottom) / 2 - 14, name, 24, anchor="mm")
        page.text((left + right) / 2, (top + bottom) / 2 + 20, area, 18, GREY, "mm")
    page.draw.rectangle((450, 684, 530, 696), "white")
    page.text(490, 712, "front door", 18, GREY, "ma")
    return page


def recipe() -> Page:
    page = Page("#fffaf0")
    page.title("Rye sourdough bread", "#8b4513")
    page.text(40, 110, "Ingredients", 24, "#8b4513")
    page.lines(60, 150, ["500 g rye flour", "400 ml warm water", "150 g sourdough starter", "12 g salt"])
    page.text(40, 320, "Method", 24, "#8b4513")
    page.lines(
        60,
        360,
        ["1. Mix the flour, water and starter", "2. Let the dough rise for 8 hours", "3. Shape the loaf and dust it"],
    )
    page.lines(60, 468, ["4. Bake 50 minutes at 230 degrees", "5. Cool on a rack before slicing"])
    page.draw.ellipse((210, 590, 430, 740), "#a0612b", "#6b3e1a", 5)
    for x in (260, 310, 360):
        page.draw.line((x, 620, x + 30, 700), "#e3c08e", 6)
    return page


def lab_report() -> Page:
    page = Page()
    page.title("Blood test report", GREEN)
    page.lines(40, 110, ["Patient: M. Example", "Sample taken: 3 May 2024"])
    rows = [
        ["Value", "Result", "Unit", "Normal"],
        ["Haemoglobin", "13.9", "g/dl", "12 - 16"],
        ["Glucose", "112", "mg/dl", "70 - 99"],
    ]
    rows += [
        ["Cholesterol", "188", "mg/dl", "< 200"],
        ["Ferritin", "41", "ng/ml", "15 - 150"],
        ["Potassium", "4.2", "mmol/l", "3.5 - 5"],
    ]
    page.table(200, [56, 240, 350, 470], rows, 50)
    page.text(40, 540, "Glucose is above the normal range", 20, RED)
    return page


def org_chart() -> Page:
    page = Page()
    page.title("Who leads whom")
    page.box(320, 170, "Director Ana Silva", BLUE, 260)
    page.draw.line((320, 202, 320, 260), GREY, 3)
    page.draw.line((170, 260, 470, 260), GREY, 3)
    for x, head, people in (
        (170, "Research: Liu", ["Postdoc: Okafor", "Student: Berg"]),
        (470, "Finance: Moreau", ["Payroll: Haddad", "Buying: Novak"]),
    ):
        page.arrow(x, 260, x, 320)
        page.box(x, 352, head, GREEN, 240)
        for number, person in enumerate(people):
            page.arrow(x, 384 + number * 130, x, 450 + number * 130)
            page.box(x, 482 + number * 130, person, AMBER, 240)
    return page


def map_legend() -> Page:
    page = Page("#f4f1e4")
    page.title("Hiking map legend")
    marks = [("Drinking water spring", BLUE), ("Mountain hut", RED), ("Viewpoint", AMBER), ("Camp site", GREEN)]
    for number, (name, colour) in enumerate(marks):
        y = 150 + number * 80
        if number % 2:
            page.draw.polygon(((60, y + 40), (80, y), (100, y + 40)), colour)
        else:
            page.draw.ellipse((60, y, 100, y + 40), colour)
        page.text(140, y + 20, name, 24, anchor="lm")
    for number, (name, colour, width) in enumerate(
        [("Marked trail", RED, 4), ("River", BLUE, 8), ("Forest road", GREY, 6)]
    ):
        y = 490 + number * 70
        page.draw.line((50, y, 115, y), colour, width)
        page.text(140, y, name, 24, anchor="lm")
    page.text(40, 730, "Scale 1 : 25 000", 20, GREY)
    return page


def pages() -> dict[str, Page]:
    tools = [
        ["Cordless drill", "2", "89.00", "178.00"],
        ["Hex key set", "5", "12.50", "62.50"],
        ["Safety gloves", "10", "4.20", "42.00"],
    ]
    trains = [
        ["Station", "Mon-Fri", "Sat", "Sun"],
        ["Harbour", "06:12", "07:40", "09:05"],
        ["Old Town", "06:20", "07:49", "09:13"],
    ]
    trains += [["University", "06:31", "08:01", "09:25"], ["Airport", "06:48", "08:20", "09:44"]]
    regions = [("North", 41), ("South", 28), ("East", 17), ("West", 35)]
    return {
        "invoice": invoice("Bergmann Tools", "No. 2024-0417", "Hansen Joinery", tools, "EUR 282.50", BLUE),
        "revenue": bar_chart("Revenue by region, 2023", "million EUR", regions, [BLUE]),
        "slide": slide(),
        "timetable": timetable("Train timetable, line 7", "No service on public holidays", trains, RED),
        "nutrition": nutrition(),
        "flow_chart": flow_chart(),
        "weather": weather(),
        "floor_plan": floor_plan(),
        "recipe": recipe(),
        "lab_report": lab_report(),
        "org_chart": org_chart(),
        "map_legend": map_legend(),
    }


def questions(drawn: dict[str, Page]) -> dict[str, Page]:
    """Three pages of kinds that the table holds with other content, and a bad photocopy of one that it holds."""
    books = [
        ["Field guide", "1", "24.00", "24.00"],
        ["Star atlas", "3", "31.50", "94.50"],
        ["Notebook", "12", "2.10", "25.20"],
    ]
    buses = [
        ["Stop", "Mon-Fri", "Sat", "Sun"],
        ["Market", "05:50", "08:15", "10:00"],
        ["Hospital", "05:58", "08:24", "10:08"],
    ]
    buses += [["Stadium", "06:07", "08:33", "10:19"], ["Lake", "06:25", "08:50", "10:36"]]
    shops = [("Oslo", 12), ("Bergen", 30), ("Narvik", 22), ("Bodo", 9), ("Moss", 17)]
    copy = Page()
    copy.image = drawn["recipe"].image.convert("L").rotate(1, fillcolor=255, resample=Image.Resampling.BICUBIC)
    copy.image = copy.image.filter(ImageFilter.GaussianBlur(0.7)).convert("RGB")
    return {
        "another_invoice": invoice("Lindgren Books", "No. 88", "City Library", books, "SEK 143.70", GREEN),
        "another_bar_chart": bar_chart("Sales by town, 2022", "thousand pairs of skis", shops, [RED]),
        "another_timetable": timetable("Bus timetable, line 31", "Night buses see other side", buses, BLUE),
        "photocopied_recipe": copy,
    }


def save(folder: str, drawn: dict[str, Page]) -> None:
    target = Path(__file__).parent / folder
    target.mkdir(exist_ok=True)
    for name, page in drawn.items():
        page.image.quantize(64, dither=Image.Dither.NONE).save(target / f"{name}.png", optimize=True)


if __name__ == "__main__":
    twelve = pages()
    save("pages", twelve)
    save("questions", questions(twelve))
