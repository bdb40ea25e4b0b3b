"""Makes the image files of this folder: kinds that the encoders of the `image` crate cannot write.

Needs Pillow 11 or later: `python3 make_images.py` in any folder writes them there. All are one picture of 96 x 64 pixels.
"""

from PIL import Image, ImageDraw


def picture() -> Image.Image:
    image = Image.new("RGB", (96, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, 40, 56), fill=(200, 30, 30))
    draw.ellipse((48, 12, 88, 52), fill=(30, 60, 200))
    draw.line((0, 63, 95, 0), fill="black", width=2)
    return image


def main() -> None:
    rgb = picture()
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))
    palette = rgb.quantize(16)
    rgb.convert("CMYK").save("cmyk.jpg", quality=85)
    rgb.save("progressive.jpg", quality=85, progressive=True)
    rgb.convert("L").save("grey.jpg", quality=85)
    # Orientation 6: to be turned by 90 degrees.
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save("turned.jpg", quality=85, exif=exif)
    palette.save("palette.png", optimize=True)
    palette.save("palette_transparent.png", transparency=0, optimize=True)
    rgb.convert("1").save("one_bit.png", optimize=True)
    rgb.convert("1").save("fax.tif", compression="group4")
    rgb.save("lzw.tif", compression="tiff_lzw")
    rgb.convert("CMYK").save("cmyk.tif", compression="tiff_lzw")
    palette.save("animated.gif", save_all=True, append_images=[palette.rotate(180)], duration=100, loop=0)
    rgb.save("lossy.webp", quality=80)
    alpha.save("alpha_lossy.webp", quality=80)
    palette.save("palette.bmp")


if __name__ == "__main__":
    main()
