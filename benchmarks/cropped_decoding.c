/* One crop of a JPEG image to RGB, by libjpeg-turbo's partial decoding; the pixels of a full decode. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <jpeglib.h>

struct fault {
    struct jpeg_error_mgr base;
    jmp_buf escape;
};

static void escape_from_error(j_common_ptr image) { longjmp(((struct fault *)image->err)->escape, 1); }
static void print_nothing(j_common_ptr image, int level) { (void)image, (void)level; }

/* out: height x width x 3 bytes. Returns 0, or 1 for data that cannot be decoded. */
int decode_crop(const unsigned char *data, unsigned long size, int top, int left, int height, int width,
                unsigned char *out) {
    struct jpeg_decompress_struct image;
    struct fault fault;
    image.err = jpeg_std_error(&fault.base);
    fault.base.error_exit = escape_from_error;
    fault.base.emit_message = print_nothing;
    if (setjmp(fault.escape)) {
        jpeg_destroy_decompress(&image);
        return 1;
    }
    jpeg_create_decompress(&image);
    jpeg_mem_src(&image, data, size);
    jpeg_read_header(&image, TRUE);
    image.out_color_space = JCS_RGB;
    jpeg_start_decompress(&image);

    /* A column more on each side: the chroma of a crop's edge is interpolated from both neighbours. */
    JDIMENSION first = left > 0 ? left - 1 : 0, columns = left + width + 1 - first;
    if (first + columns > image.output_width)
        columns = image.output_width - first;
    if (columns < image.output_width)
        jpeg_crop_scanline(&image, &first, &columns); /* widens it to whole blocks */
    if (top > 0)
        jpeg_skip_scanlines(&image, top);
    JSAMPARRAY row = image.mem->alloc_sarray((j_common_ptr)&image, JPOOL_IMAGE, columns * 3, 1);
    for (int y = 0; y < height; y++) {
        jpeg_read_scanlines(&image, row, 1);
        memcpy(out + (size_t)y * width * 3, row[0] + (left - first) * 3, (size_t)width * 3);
    }
    jpeg_abort_decompress(&image); /* what lies below the crop is not decoded */
    jpeg_destroy_decompress(&image);
    return 0;
}
