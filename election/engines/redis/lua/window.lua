-- Rows of a time range, sampled down to a limit. Rows are written in the order of time, so bisection finds the start
-- and the end of the range.
-- ARGV: prefix, zset of the rows, prefix of a row, field of its time, since, until, limit,
--       rows before the range to read, field of the time up to which such a row extends, or '',
--       rows to count one by one, first and last time that can be converted, ticks that a skip can stand for
-- Returns the sampling interval in rows, the time of the oldest row of all, the rows, and the count of each outcome.
local p = ARGV[1]
local order, row, field, limit = p .. ARGV[2], p .. ARGV[3], ARGV[4], tonumber(ARGV[7])

local function at(rank)
  return call('ZRANGE', order, rank, rank)[1]
end

local function number_of(key, name, least, most)
  local number = tonumber(call('HGET', row .. key, name) or '')
  return number and number >= least and number <= most and number or nil
end

local function time_of(key, name)
  return number_of(key, name, tonumber(ARGV[11]), tonumber(ARGV[12]))
end

-- A row whose time cannot be read goes with the next one that has a time.
local function first_from(moment)
  local low, high = 0, call('ZCARD', order)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local timed, time = middle, time_of(at(middle), field)
    while not time and timed + 1 < high do
      timed = timed + 1
      time = time_of(at(timed), field)
    end
    if time and time < moment then
      low = timed + 1
    else
      high = middle
    end
  end
  return low
end

local first, beyond = first_from(tonumber(ARGV[5])), first_from(tonumber(ARGV[6]) + 1)
local every = math.max(1, math.ceil((beyond - first) / limit))
local found = {}
local function add(key)
  local fields = call('HGETALL', row .. key)
  table.insert(fields, 'id')
  table.insert(fields, key)
  table.insert(found, fields)
end
for rank = math.max(0, first - tonumber(ARGV[8])), first - 1 do
  local key = at(rank)
  local reaches = ARGV[9] == '' or (time_of(key, ARGV[9]) or 0) >= tonumber(ARGV[5])
  if reaches then
    add(key)
  end
end
for rank = first, beyond - 1, every do
  add(at(rank))
end
if every > 1 and ARGV[9] ~= '' then
  local range = {at(beyond - 1), at(first)}
  for _, key in ipairs(call('ZREVRANGEBYSCORE', p .. 'troubled', range[1], range[2], 'LIMIT', 0, math.floor(limit / 2))) do
    add(key)
  end
end
local oldest = at(0)

-- Nearly all runs succeed; the others are in separate sets.
local function count_runs(least, most)
  local counts, rest = {running = call('ZCOUNT', p .. 'open', least, most)}, beyond - first
  rest = rest - counts.running
  for _, key in ipairs(call('ZRANGEBYSCORE', p .. 'troubled', least, most)) do
    local outcome = call('HGET', row .. key, 'outcome') or 'failed'
    counts[outcome] = (counts[outcome] or 0) + 1
    rest = rest - 1
  end
  counts.succeeded = rest
  return counts
end

local function count_skips()
  local skipped = 0
  for _, key in ipairs(call('ZRANGE', order, first, beyond - 1)) do
    skipped = skipped + math.floor(number_of(key, 'count', 1, tonumber(ARGV[13])) or 1)
  end
  return {skipped = skipped}
end

local counted, most = false, tonumber(ARGV[10])
if ARGV[2] == 'runs' and beyond > first and call('ZCOUNT', p .. 'troubled', at(first), at(beyond - 1)) <= most then
  counted = count_runs(at(first), at(beyond - 1))
elseif ARGV[2] == 'skips' and beyond - first <= most then
  counted = count_skips()
elseif beyond <= first then
  counted = {}
end
local counts = false
if counted then
  counts = {}
  for outcome, number in pairs(counted) do
    table.insert(counts, outcome)
    table.insert(counts, string.format('%.0f', number))
  end
end
return {every, oldest and call('HGET', row .. oldest, field) or false, found, counts}
