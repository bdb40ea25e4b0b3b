//! `infinity_embed_text_trigger('source', 'target' [, 'model'])` and its image twin.
//!
//! BEFORE INSERT OR UPDATE row triggers on the pattern of `tsvector_update_trigger`: the target
//! follows the source inside the writing statement, one request per row, and only where the source
//! changed. Bulk loads are better served by the batch functions.

use std::ffi::CStr;
use std::rc::Rc;

use infinity_client::MultiVector;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, pg_extern, pg_sys};

use crate::attribute::attribute;
use crate::embed;
use crate::error::SqlError;
use crate::matrix::RealArray;
use crate::multivector::of_embedding;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Text,
    Image,
}

#[pg_extern(sql = false)]
fn infinity_embed_text_trigger(fcinfo: pg_sys::FunctionCallInfo) -> Row {
    // SAFETY: PostgreSQL calls with a valid fcinfo.
    unsafe { run(fcinfo, Source::Text) }.unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn infinity_embed_image_trigger(fcinfo: pg_sys::FunctionCallInfo) -> Row {
    // SAFETY: PostgreSQL calls with a valid fcinfo.
    unsafe { run(fcinfo, Source::Image) }.unwrap_or_else(|error| error.raise())
}

/// # Safety
/// `fcinfo` is what PostgreSQL passed to the function that it called.
unsafe fn run(fcinfo: pg_sys::FunctionCallInfo, source: Source) -> Result<Row, SqlError> {
    // SAFETY: the context of a trigger call is a TriggerData, with a relation, a trigger and the
    // rows of its event; `protocol` and `Columns::find` check which.
    unsafe {
        if !pgrx::trigger_support::called_as_trigger(fcinfo) {
            return Err(SqlError::trigger_protocol(
                source.function(),
                "must be called as a trigger",
            ));
        }
        let call = &*(*fcinfo).context.cast::<pg_sys::TriggerData>();
        let is_update = protocol(call, source)?;
        let columns = Columns::find(call, source)?;
        let row = if is_update {
            call.tg_newtuple
        } else {
            call.tg_trigtuple
        };
        let value = columns.source_of(row);
        if is_update && columns.same_source(value, columns.source_of(call.tg_trigtuple)) {
            return Ok(Row(row));
        }
        let embedding = value
            .map(|datum| source.embed(datum, columns.model.as_deref()))
            .transpose()?;
        Ok(Row(columns.with_target(row, embedding)?))
    }
}

/// Whether the event is an UPDATE; refuses every kind of trigger but BEFORE ROW on INSERT or UPDATE.
fn protocol(call: &pg_sys::TriggerData, source: Source) -> Result<bool, SqlError> {
    let event = call.tg_event;
    let problem = if event & pg_sys::TRIGGER_EVENT_ROW == 0 {
        "must be fired for each row"
    } else if event & pg_sys::TRIGGER_EVENT_TIMINGMASK != pg_sys::TRIGGER_EVENT_BEFORE {
        "must be fired before the event"
    } else {
        match event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => return Ok(false),
            pg_sys::TRIGGER_EVENT_UPDATE => return Ok(true),
            _ => "must be fired for INSERT or UPDATE",
        }
    };
    Err(SqlError::trigger_protocol(source.function(), problem))
}

impl Source {
    fn function(self) -> &'static str {
        match self {
            Source::Text => "infinity_embed_text_trigger",
            Source::Image => "infinity_embed_image_trigger",
        }
    }

    /// # Safety
    /// `datum` is a non-null value of the type that `accepts` has accepted.
    unsafe fn embed(
        self,
        datum: pg_sys::Datum,
        model: Option<&[u8]>,
    ) -> Result<Rc<MultiVector>, SqlError> {
        // SAFETY: both kinds of source are varlenas of plain bytes.
        let bytes = unsafe { <&[u8]>::from_datum(datum, false) }.expect("not null");
        match self {
            Source::Text => embed::text(bytes, model),
            Source::Image => embed::image(bytes, model),
        }
    }

    /// text and what is stored like it (varchar, char, citext, domains), or bytea.
    fn accepts(self, type_oid: pg_sys::Oid) -> bool {
        let (mut category, mut preferred) = (0, false);
        // SAFETY: catalog look-ups of an existing column's type.
        let length = unsafe {
            pg_sys::get_type_category_preferred(type_oid, &mut category, &mut preferred);
            pg_sys::get_typlen(type_oid)
        };
        match self {
            Source::Text => category as u8 == pg_sys::TYPCATEGORY_STRING && length == -1,
            Source::Image => type_oid == pg_sys::BYTEAOID,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Source::Text => "text",
            Source::Image => "bytea",
        }
    }
}

/// What the target column holds.
#[derive(Clone, Copy)]
enum Target {
    RealArray,
    Multivector { typmod: i32 },
}

impl Target {
    /// # Safety
    /// `trigger` is the oid of a trigger function of this extension: its schema is the type's.
    unsafe fn find(type_oid: pg_sys::Oid, typmod: i32, trigger: pg_sys::Oid) -> Option<Target> {
        if type_oid == pg_sys::FLOAT4ARRAYOID {
            return Some(Target::RealArray);
        }
        // SAFETY: a catalog look-up by name and schema, as the cache's key says.
        let multivector = unsafe {
            pg_sys::GetSysCacheOid(
                pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
                pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
                pg_sys::Datum::from(c"multivector".as_ptr()),
                pg_sys::Datum::from(pg_sys::get_func_namespace(trigger)),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
            )
        };
        (type_oid == multivector).then_some(Target::Multivector { typmod })
    }

    fn datum(self, embedding: Rc<MultiVector>) -> Result<pg_sys::Datum, SqlError> {
        match self {
            Target::RealArray => RealArray::embedding(embedding).build(),
            Target::Multivector { typmod } => Ok(of_embedding(&embedding, typmod)?.into_datum()),
        }
    }
}

/// The trigger's two columns, looked up and checked.
struct Columns {
    tuple_descriptor: pg_sys::TupleDesc,
    source: i32,
    target: i32,
    target_type: Target,
    model: Option<Vec<u8>>,
}

impl Columns {
    /// # Safety
    /// `call` is a live trigger call.
    unsafe fn find(call: &pg_sys::TriggerData, source: Source) -> Result<Columns, SqlError> {
        // SAFETY: tg_relation and tg_trigger are set in every trigger call; tgargs has tgnargs
        // NUL-terminated strings.
        let (tuple_descriptor, table, arguments) = unsafe {
            let relation = &*call.tg_relation;
            let trigger = &*call.tg_trigger;
            let arguments: Vec<&CStr> = (0..trigger.tgnargs as usize)
                .map(|index| CStr::from_ptr(*trigger.tgargs.add(index)))
                .collect();
            let table = CStr::from_ptr((*relation.rd_rel).relname.data.as_ptr());
            (relation.rd_att, table, arguments)
        };
        let (source_name, target_name, model) = match arguments[..] {
            [source, target] => (source, target, None),
            [source, target, model] => (source, target, Some(model)),
            _ => {
                return Err(SqlError::trigger_arguments(
                    source.function(),
                    arguments.len(),
                ));
            }
        };
        let source_column = column(tuple_descriptor, source_name, table)?;
        let target_column = column(tuple_descriptor, target_name, table)?;
        // SAFETY: the columns are this descriptor's; catalog look-ups of existing types.
        unsafe {
            for (number, name) in [(source_column, source_name), (target_column, target_name)] {
                if attribute(tuple_descriptor, number).attgenerated != 0 {
                    return Err(SqlError::generated_column(name));
                }
            }
            let source_type = pg_sys::SPI_gettypeid(tuple_descriptor, source_column);
            if !source.accepts(pg_sys::getBaseType(source_type)) {
                return Err(SqlError::column_type(
                    source_name,
                    source.wanted(),
                    source_type,
                ));
            }
            let target_type = pg_sys::SPI_gettypeid(tuple_descriptor, target_column);
            let typmod = attribute(tuple_descriptor, target_column).atttypmod;
            let target_type = Target::find(target_type, typmod, (*call.tg_trigger).tgfoid)
                .ok_or_else(|| {
                    SqlError::column_type(target_name, "multivector or real[]", target_type)
                })?;
            Ok(Columns {
                tuple_descriptor,
                source: source_column,
                target: target_column,
                target_type,
                model: model.map(|model| model.to_bytes().to_vec()),
            })
        }
    }

    /// # Safety
    /// `row` is a tuple of the trigger's relation.
    unsafe fn source_of(&self, row: pg_sys::HeapTuple) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the caller's row belongs to the descriptor.
        let datum =
            unsafe { pg_sys::SPI_getbinval(row, self.tuple_descriptor, self.source, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// Whether two source values have the same bytes. An untouched column is the same TOAST pointer
    /// in both rows; beyond that, it detoasts only where the sizes agree.
    ///
    /// # Safety
    /// Both are values of the source column.
    unsafe fn same_source(&self, new: Option<pg_sys::Datum>, old: Option<pg_sys::Datum>) -> bool {
        match (new, old) {
            (None, None) => true,
            // SAFETY: the source's type is a varlena of plain bytes (see `accepts`), and
            // varsize_any is the size of a varlena as it is stored, toasted or not.
            (Some(new), Some(old)) => unsafe {
                let stored = |datum: pg_sys::Datum| {
                    let start: *const pg_sys::varlena = datum.cast_mut_ptr();
                    std::slice::from_raw_parts(start.cast::<u8>(), pgrx::varsize_any(start))
                };
                let content = |datum| <&[u8]>::from_datum(datum, false);
                stored(new) == stored(old)
                    || pg_sys::toast_raw_datum_size(new) == pg_sys::toast_raw_datum_size(old)
                        && content(new) == content(old)
            },
            _ => false,
        }
    }

    /// A copy of `row` with the target column set.
    ///
    /// # Safety
    /// `row` is a tuple of the trigger's relation.
    unsafe fn with_target(
        &self,
        row: pg_sys::HeapTuple,
        embedding: Option<Rc<MultiVector>>,
    ) -> Result<pg_sys::HeapTuple, SqlError> {
        let value = embedding.map(|embedding| self.target_type.datum(embedding));
        let mut value = value.transpose()?;
        let mut is_null = value.is_none();
        let mut column = self.target;
        // SAFETY: one column number, one value and one flag, as the count says.
        unsafe {
            Ok(pg_sys::heap_modify_tuple_by_cols(
                row,
                self.tuple_descriptor,
                1,
                &mut column,
                value.get_or_insert(pg_sys::Datum::from(0)),
                &mut is_null,
            ))
        }
    }
}

/// The number of a user column.
fn column(tuple_descriptor: pg_sys::TupleDesc, name: &CStr, table: &CStr) -> Result<i32, SqlError> {
    // SAFETY: a live descriptor and a NUL-terminated name.
    let number = unsafe { pg_sys::SPI_fnumber(tuple_descriptor, name.as_ptr()) };
    if number > 0 {
        Ok(number)
    } else {
        Err(SqlError::no_such_column(name, table))
    }
}

/// The row that the trigger hands back.
struct Row(pg_sys::HeapTuple);

// SAFETY: a trigger function returns the tuple's pointer as its datum, never NULL.
unsafe impl BoxRet for Row {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: PostgreSQL's own row, or a copy made in the current memory context.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

crate::sql_type::sql_type!(Row, "trigger");
